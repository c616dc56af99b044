//go:build linux && faults

package faults_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/libcluster/libcluster"
)

// What a holder says, one word a line.
const (
	fenceTaken   = "fence"   // it has the comparisons, and has written with them once
	writeRefused = "refused" // it has written with them again, when it was told to
	writeTaken   = "TAKEN"
)

// playHolder is a holder's side: under each place it takes a fence, writes with it,
// and is then held up in the middle of its callback until it gets SIGUSR1. Then it
// goes on as if nothing had happened, and writes.
func playHolder(p part) error {
	file, err := os.OpenFile(p.Acts, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	client, err := clientv3.New(clientv3.Config{Endpoints: p.URLs})
	if err != nil {
		return err
	}
	defer client.Close()
	until, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	goOn := make(chan os.Signal, 1)
	signal.Notify(goOn, syscall.SIGUSR1)
	c, err := libcluster.New(libcluster.Config{
		Key: p.Key, ID: p.ID, TTL: p.TTL, Mode: libcluster.ModeExclusive, DrainTimeout: drainTimeout,
		Registry: libcluster.Etcd(p.URLs...),
	})
	if err != nil {
		return err
	}
	write := func(fence []clientv3.Cmp) (bool, error) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		answer, err := client.Txn(ctx).If(fence...).Then(clientv3.OpPut(owner(p.Key), p.ID)).Commit()
		if err != nil {
			return false, err
		}
		return answer.Succeeded, nil
	}
	err = c.Run(until, func(ctx context.Context, s libcluster.State) error {
		fence, err := c.EtcdFence(s)
		taken := false
		if err == nil {
			if taken, err = write(fence); err != nil {
				return err
			}
		}
		if !taken { // superseded already; not asked here
			<-ctx.Done()
			return nil
		}
		fmt.Fprintln(file, fenceTaken)
		select {
		case <-goOn:
		case <-until.Done():
			return nil
		}
		if taken, err = write(fence); err != nil {
			return err
		}
		word := writeRefused
		if taken {
			word = writeTaken
		}
		fmt.Fprintln(file, word)
		return errDone
	})
	if errors.Is(err, errDone) {
		return nil
	}
	return err
}

// errDone says that a holder has done what it was started for.
var errDone = errors.New("done")

// A holder that is held up in the middle of its callback, until another one has its
// place, and then writes all the same, without looking at anything, is refused by etcd
// itself every time: whether its process was frozen, or only its function hung for
// longer than it may.
func TestAStaleHoldersWriteIsRefusedEveryTime(t *testing.T) {
	const atOnce = 8
	etcd := startServers(t, 3)
	client := dial(t, etcd.urls()...)
	n, refused := trials(3, 125), 0
	for round := range n {
		var holders []*staleHolder
		for i := range atOnce {
			holders = append(holders, startHolder(t, etcd.urls(), fmt.Sprintf("fence-%d-%d", round, i)))
		}
		for i, h := range holders {
			awaitWord(t, h.Acts, fenceTaken)
			if i%2 == 0 {
				h.freeze()
			}
		}
		// Who joins has a place by a plan after the holder's.
		var joining sync.WaitGroup
		for _, h := range holders {
			joining.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				if err := h.successor.Join(ctx); err != nil {
					t.Error(err)
				}
			})
		}
		joining.Wait()
		for i, h := range holders {
			h.supersede(client)
			h.signal(syscall.SIGUSR1)
			if i%2 == 0 {
				h.thaw()
			}
		}
		for _, h := range holders {
			awaitWord(t, h.Acts, writeRefused)
			require.Equal(t, h.successor.ID(), h.owner(client))
			refused++
			h.end()
		}
	}
	t.Logf("| stale holders that write with a fence | trials %d | refused %d |", n*atOnce, refused)
}

// staleHolder is a holder in a cluster of its own, and who comes after it.
type staleHolder struct {
	*child
	successor *libcluster.Cluster
}

func startHolder(t *testing.T, urls []string, key string) *staleHolder {
	t.Helper()
	p := part{Key: key, ID: "holder", URLs: urls, TTL: shortTTL, Acts: filepath.Join(t.TempDir(), key)}
	text, err := json.Marshal(p)
	require.NoError(t, err)
	h := &staleHolder{child: &child{spawn(t, roleHolder, os.Stderr, []string{partVariable + "=" + string(text)}), p}}
	h.successor, err = libcluster.New(libcluster.Config{
		Key: key, ID: "successor", TTL: shortTTL, Mode: libcluster.ModeExclusive, Registry: libcluster.Etcd(urls...),
	})
	require.NoError(t, err)
	t.Cleanup(h.end)
	return h
}

func (h *staleHolder) end() {
	h.kill()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = h.successor.Leave(ctx) // it may have left, or not joined
}

// supersede has the successor write.
func (h *staleHolder) supersede(client *clientv3.Client) {
	h.t.Helper()
	await(h.t, patience, "the successor to write under its place", func() bool {
		fence, err := h.successor.EtcdFence(h.successor.State())
		if err != nil { // fenced for a moment
			return false
		}
		answer, err := client.Txn(h.t.Context()).If(fence...).Then(clientv3.OpPut(owner(h.Key), h.successor.ID())).Commit()
		require.NoError(h.t, err)
		return answer.Succeeded
	})
}

// owner returns who has written.
func (h *staleHolder) owner(client *clientv3.Client) string {
	h.t.Helper()
	got, err := client.Get(h.t.Context(), owner(h.Key))
	require.NoError(h.t, err)
	require.Len(h.t, got.Kvs, 1)
	return string(got.Kvs[0].Value)
}

// owner is the key that is written to.
func owner(key string) string { return "owner of " + key }

// awaitWord waits until a holder's last word is as wanted.
func awaitWord(t *testing.T, name, want string) {
	t.Helper()
	await(t, patience, "a holder to say "+want, func() bool {
		text, err := os.ReadFile(name)
		if errors.Is(err, os.ErrNotExist) {
			return false
		}
		require.NoError(t, err)
		words := strings.Fields(string(text))
		require.NotContains(t, words, writeTaken, "a stale holder's write was accepted")
		return len(words) > 0 && words[len(words)-1] == want
	})
}
