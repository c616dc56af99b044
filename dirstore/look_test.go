package dirstore_test

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/dirstore"
)

func TestLookHasWatchesSeeWhatAnotherProcessHasChanged(t *testing.T) {
	t.Parallel()
	dir := shm(t)
	store, other := dirstore.Dir(dir), dirstore.Dir(dir)
	store.Poll = time.Hour
	var calls atomic.Int64
	store.Around(func(_, _ string, do func() error) error { calls.Add(1); return do() })
	store.Look("space") // which nobody has opened
	w, err := open(t, store).Watch(patience(t), "", 0)
	require.NoError(t, err)
	defer w.Close()
	changer := open(t, other)
	ctx := patience(t)
	for range 20 { // Next may have looked only after the commit
		seen, before := make(chan error, 1), calls.Load()
		go func() {
			_, err := w.Next(ctx)
			seen <- err
		}()
		for calls.Load() == before && ctx.Err() == nil {
			runtime.Gosched()
		}
		put(t, changer, "k", "v", 0)
		for waits := true; waits; {
			store.Look("space") // it may not wait yet
			select {
			case err := <-seen:
				require.NoError(t, err)
				waits = false
			case <-time.After(time.Millisecond):
			}
		}
	}
}
