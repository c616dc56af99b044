package main

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"sync"

	"github.com/libcluster/libcluster"
)

// largestValue is in bytes. All that one instance has to say may take 64 KiB.
const largestValue = 64 << 10

// board shows the key-values of all instances, and changes those of its own.
type board struct {
	http.ServeMux
	cluster *libcluster.Cluster

	mu  sync.Mutex // held for as long as it takes to publish
	own map[string]string
}

func newBoard(cluster *libcluster.Cluster) *board {
	b := &board{cluster: cluster, own: map[string]string{}}
	b.HandleFunc("GET /{$}", b.show)
	b.HandleFunc("PUT /{key}", b.put)
	b.HandleFunc("DELETE /{key}", b.delete)
	return b
}

func (b *board) show(w http.ResponseWriter, _ *http.Request) {
	all := map[string]map[string]string{}
	for _, member := range b.cluster.Members() {
		all[member.ID] = map[string]string{}
		maps.Copy(all[member.ID], member.Metadata)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(all) // an error means that the client has gone
}

func (b *board) put(w http.ResponseWriter, r *http.Request) {
	value, err := io.ReadAll(http.MaxBytesReader(w, r.Body, largestValue))
	if err != nil {
		status := http.StatusBadRequest
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			status = http.StatusRequestEntityTooLarge
		}
		http.Error(w, err.Error(), status)
		return
	}
	b.change(w, r, func(own map[string]string) { own[r.PathValue("key")] = string(value) })
}

func (b *board) delete(w http.ResponseWriter, r *http.Request) {
	b.change(w, r, func(own map[string]string) { delete(own, r.PathValue("key")) })
}

// change answers when all instances that can be reached know.
func (b *board) change(w http.ResponseWriter, r *http.Request, edit func(own map[string]string)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	next := maps.Clone(b.own)
	edit(next)
	err := b.cluster.SetMetadata(r.Context(), next)
	if wrong := (*libcluster.ConfigError)(nil); errors.As(err, &wrong) { // such as too much of it
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	b.own = next
	if err == nil {
		err = b.cluster.Err()
	}
	if err != nil { // it is published later
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
