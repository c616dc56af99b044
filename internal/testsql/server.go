package testsql

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

const (
	// logShown is how much of the end of its log is shown of a server.
	logShown = 64 << 10
	// askEvery is how long it takes until a server that starts is asked again.
	askEvery = 20 * time.Millisecond
)

// server is a database in processes of its own, with its data and its log in a temporary
// folder. It ends with the process that has started it.
type server struct {
	name    string
	dir     string
	port    int
	env     []string       // besides the usual
	quit    syscall.Signal // ends it at once
	url     func(database string) string
	command *exec.Cmd
	ended   chan struct{} // closed when err is set
	err     error         // of the process
}

// newServer returns a server that has a folder, which belongs to the user that it will run as.
func newServer(name string, quit syscall.Signal) (*server, error) {
	dir, err := os.MkdirTemp("", "libcluster-"+name+"-")
	if err != nil {
		return nil, err
	}
	s := &server{name: name, dir: dir, quit: quit}
	if err := own(dir); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return s, nil
}

func (s *server) file(name string) string { return filepath.Join(s.dir, name) }

// prepare returns a command that runs as an ordinary user.
func (s *server) prepare(ctx context.Context, binary string, args ...string) (*exec.Cmd, error) {
	command := exec.CommandContext(ctx, binary, args...)
	command.Dir = s.dir
	// When MariaDB starts it removes the temporary tables of others that have the same TMPDIR.
	command.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + s.dir, "TMPDIR=" + s.dir, "LC_ALL=C", "TZ=UTC"}
	command.Env = append(command.Env, s.env...)
	return command, attributes(command, s.quit)
}

// run runs a command to its end.
func (s *server) run(ctx context.Context, binary string, args ...string) error {
	command, err := s.prepare(ctx, binary, args...)
	if err != nil {
		return err
	}
	runtime.LockOSThread() // its end would be the end of the command
	defer runtime.UnlockOSThread()
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", binary, err, output)
	}
	return nil
}

// start starts the server and returns when it answers.
func (s *server) start(ctx context.Context, driver, url, binary string, args ...string) error {
	log, err := os.Create(s.file("log"))
	if err != nil {
		return err
	}
	defer log.Close()
	command, err := s.prepare(context.Background(), binary, args...)
	if err != nil {
		return err
	}
	command.Stdout, command.Stderr = log, log
	s.ended = make(chan struct{})
	started := make(chan error)
	go func() {
		// Linux ends it with the thread that has started it, and not with the process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := command.Start()
		if err == nil {
			s.command = command
		}
		started <- err
		if err == nil {
			s.err = command.Wait()
			close(s.ended)
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	if err := s.awaitAnswer(ctx, driver, url); err != nil {
		return fmt.Errorf("%s does not answer: %w; its log:\n%s", binary, err, s.log())
	}
	return nil
}

func (s *server) awaitAnswer(ctx context.Context, driver, url string) error {
	db, err := sql.Open(driver, url)
	if err != nil {
		return err
	}
	defer db.Close()
	again := time.NewTicker(askEvery)
	defer again.Stop()
	for {
		err := db.PingContext(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-again.C:
		case <-s.ended:
			return fmt.Errorf("it has ended: %w", s.err)
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}

// close ends the server, whose data nobody needs, and removes its folder.
func (s *server) close() error {
	s.end(s.quit)
	return os.RemoveAll(s.dir)
}

// end ends the server by a signal, if it runs.
func (s *server) end(by os.Signal) {
	if s.command != nil {
		_ = s.command.Process.Signal(by) // an error says that it has ended
		<-s.ended
	}
}

// log returns the end of the log.
func (s *server) log() []byte {
	text, err := os.ReadFile(s.file("log"))
	if err != nil {
		return []byte(err.Error())
	}
	return bytes.TrimSpace(text[max(0, len(text)-logShown):])
}
