package libcluster

// Secret is a text that nothing prints, logs or marshals, wherever it is held: of fields
// that are not exported, package fmt prints the bare value, whatever methods that has. So
// there is no text in a Secret, but a function that returns it. The zero value is empty.
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
