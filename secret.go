package libcluster

// Secret is a text that nothing prints, logs or marshals, wherever it is held. Package fmt
// prints the bare value of a field that is not exported, and ignores its methods. So a
// Secret holds no text, but a function that returns it. The zero value is empty.
type Secret struct{ reveal func() string }

// NewSecret returns the text as a secret.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{func() string { return text }}
}

// Reveal returns the text.
func (s Secret) Reveal() string {
	if s.isEmpty() {
		return ""
	}
	return s.reveal()
}

func (s Secret) isEmpty() bool { return s.reveal == nil }
