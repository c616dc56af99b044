package operator

import (
	"sync"
	"time"
)

// TimeForm is how output for programs tells a time: RFC 3339 with all nine digits of the
// nanoseconds, so that the times of several instances also sort as text.
const TimeForm = "2006-01-02T15:04:05.000000000Z07:00"

// WaitNotice is how long something may take before a command says what it is waiting for. A
// join on a healthy etcd takes milliseconds.
const WaitNotice = 2 * time.Second

// askTrouble is how often a command then asks why, and repeatTrouble how often it says so.
const (
	askTrouble    = 500 * time.Millisecond
	repeatTrouble = 30 * time.Second
)

// Untold is the trouble of what does not tell any.
func Untold() string { return "" }

// WaitingFor does what may take long, and says after a while what it is waiting for, and why
// as soon as trouble knows.
func WaitingFor(say func(format string, args ...any), what string, trouble func() string, do func() error) error {
	done := make(chan struct{})
	var notice sync.WaitGroup
	notice.Go(func() {
		timer := time.NewTimer(WaitNotice)
		defer timer.Stop()
		for said := ""; ; {
			select {
			case <-timer.C:
			case <-done:
				return
			}
			text, next := trouble(), askTrouble
			switch {
			case text != "":
				said, next = text, repeatTrouble
				say("waiting for %s: %s", what, text)
			case said == "":
				said = what
				say("waiting for %s …", what)
			}
			timer.Reset(next)
		}
	})
	defer notice.Wait()
	defer close(done)
	return do()
}
