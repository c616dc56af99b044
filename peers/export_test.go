package peers

// Hears reports whether the server of one hears that of another.
func Hears(by, of *Peers) bool {
	by.mu.Lock()
	r := by.run
	by.mu.Unlock()
	if r == nil {
		return false
	}
	heard, _ := r.board.others()
	_, hears := heard[of.self.Address]
	return hears
}
