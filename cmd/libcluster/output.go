//go:build unix

package main

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"sync"
)

// longestLine is what is written of a line at once. The rest follows as another line.
const longestLine = 64 << 10

// outputs are what a guard writes to, if lines get a prefix: the files that this process has
// to close when the guard has them, and the copying, which ends with what is written there.
type outputs struct {
	files   []*os.File
	copying sync.WaitGroup
}

// connect gives a guard its output: this program's, or pipes whose lines get a prefix.
func (x *execution) connect(cmd *exec.Cmd, prefix string) (o *outputs, err error) {
	o = &outputs{}
	cmd.Stdout, cmd.Stderr = x.stdout, x.stderr
	if !x.prefix {
		return o, nil
	}
	for _, w := range []*io.Writer{&cmd.Stdout, &cmd.Stderr} {
		ours, theirs, err := os.Pipe()
		if err != nil {
			o.close()
			return nil, err
		}
		to := *w
		*w = theirs
		o.files = append(o.files, theirs)
		o.copying.Go(func() {
			defer ours.Close()
			copyLines(to, ours, prefix)
		})
	}
	return o, nil
}

func (o *outputs) close() {
	for _, file := range o.files {
		_ = file.Close() // nothing was written by this process
	}
}

// copyLines writes each line with a prefix, as one write. It goes on when nobody takes them
// any more, so that the command is not held up.
func copyLines(to io.Writer, from io.Reader, prefix string) {
	lines := bufio.NewReaderSize(from, longestLine)
	for {
		line, err := lines.ReadSlice('\n')
		if len(line) > 0 {
			text := prefix + string(line)
			if line[len(line)-1] != '\n' {
				text += "\n"
			}
			_, _ = io.WriteString(to, text)
		}
		if err != nil && err != bufio.ErrBufferFull {
			return
		}
	}
}
