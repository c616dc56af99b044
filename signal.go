package libcluster

// signal is an event that one goroutine waits for. It may be set from anywhere and never
// blocks: one that has not been heeded stands for all.
type signal chan struct{}

func newSignal() signal { return make(signal, 1) }

func (s signal) set() {
	select {
	case s <- struct{}{}:
	default:
	}
}
