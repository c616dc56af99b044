package libcluster

// signal is an event for which one goroutine waits. Any goroutine may set it, and never
// blocks: a signal that has not been heeded yet stands for all.
type signal chan struct{}

func newSignal() signal { return make(signal, 1) }

func (s signal) set() {
	select {
	case s <- struct{}{}:
	default:
	}
}
