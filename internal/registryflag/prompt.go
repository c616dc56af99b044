package registryflag

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/term"
)

// ask asks at the terminal for a user's password, which is not shown, until ctx ends.
// Without a terminal it returns none.
func ask(ctx context.Context, user string) (password string, err error) {
	terminal := int(os.Stdin.Fd())
	before, err := term.GetState(terminal)
	if err != nil {
		return "", nil // it is no terminal
	}
	type answer struct {
		text []byte
		err  error
	}
	answers := make(chan answer, 1)
	fmt.Fprintf(os.Stderr, "Password of %q: ", user)
	go func() {
		text, err := term.ReadPassword(terminal)
		answers <- answer{text, err}
	}()
	select {
	case a := <-answers:
		fmt.Fprintln(os.Stderr) // the line break that was typed is not shown
		return string(a.text), a.err
	case <-ctx.Done():
		fmt.Fprintln(os.Stderr)
		// ReadPassword goes on, and the program ends.
		return "", errors.Join(context.Cause(ctx), term.Restore(terminal, before))
	}
}
