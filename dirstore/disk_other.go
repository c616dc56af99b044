//go:build !linux && !darwin

package dirstore

import (
	"fmt"
	"runtime"
	"time"
)

// disk refuses everything: only on Linux and macOS it has been tried what links do.
type disk string

func (disk) refuse() error {
	return fmt.Errorf("a store in a folder does not work on %s", runtime.GOOS)
}

func (d disk) check(bool) error                   { return d.refuse() }
func (d disk) mayChange(string) error             { return d.refuse() }
func (d disk) read(string, int) ([]byte, error)   { return nil, d.refuse() }
func (d disk) write(string, []byte, bool) error   { return d.refuse() }
func (d disk) overwrite(string, []byte) error     { return d.refuse() }
func (d disk) sync(string) error                  { return d.refuse() }
func (d disk) link(_, _ string) error             { return d.refuse() }
func (d disk) modified(string) (time.Time, error) { return time.Time{}, d.refuse() }
func (d disk) remove(string) error                { return d.refuse() }
func (d disk) list(string) ([]string, error)      { return nil, d.refuse() }
func (d disk) mkdir(string) error                 { return d.refuse() }
func (d disk) rename(_, _ string) error           { return d.refuse() }
