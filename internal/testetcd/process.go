package testetcd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"
)

// logShown is how much of the end of its log is shown of an etcd.
const logShown = 64 << 10

// healthEvery is how long it takes until an etcd that starts is asked again.
const healthEvery = 20 * time.Millisecond

// fast makes an etcd as quick as an embedded one with Fast.
var fast = []string{"ETCD_UNSAFE_NO_FSYNC=true", "ETCD_BCRYPT_COST=4", "ETCD_HEARTBEAT_INTERVAL=10", "ETCD_ELECTION_TIMEOUT=100"}

// process is an etcd in a process of its own, with its data and its log in a temporary
// folder. It ends with the process that has started it.
type process struct {
	command  *exec.Cmd
	dir      string
	endpoint string
	ended    chan struct{} // closed when err is set
	err      error         // of the process
}

// startProcess starts an etcd binary and returns when it answers.
func startProcess(ctx context.Context, binary string, client, peer int) (*process, error) {
	dir, err := os.MkdirTemp("", "libcluster-etcd-")
	if err != nil {
		return nil, fmt.Errorf("folder for %s: %w", binary, err)
	}
	p := &process{dir: dir, endpoint: fmt.Sprintf("http://127.0.0.1:%d", client), ended: make(chan struct{})}
	if err := p.start(binary, fmt.Sprintf("http://127.0.0.1:%d", peer)); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", binaryEnv, err), os.RemoveAll(dir))
	}
	if err := p.awaitHealth(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %s does not answer: %w; its log:\n%s", binaryEnv, binary, err, p.log()), p.Close())
	}
	return p, nil
}

func (p *process) start(binary, peer string) error {
	log, err := os.Create(p.logFile())
	if err != nil {
		return err
	}
	defer log.Close()
	p.command = exec.Command(binary, "--name", "test", "--data-dir", filepath.Join(p.dir, "data"),
		"--listen-client-urls", p.endpoint, "--advertise-client-urls", p.endpoint,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "test="+peer)
	p.command.Env = append(os.Environ(), fast...)
	p.command.Stdout, p.command.Stderr = log, log
	endWithParent(p.command)
	started := make(chan error)
	go func() {
		// Linux ends it with the thread that has started it, and not with the process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.command.Start()
		started <- err
		if err == nil {
			p.err = p.command.Wait()
			close(p.ended)
		}
	}()
	return <-started
}

// awaitHealth waits until the etcd has a leader, and answers.
func (p *process) awaitHealth(ctx context.Context) error {
	transport := &http.Transport{DisableKeepAlives: true}
	again := time.NewTicker(healthEvery)
	defer again.Stop()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.endpoint+"/health", nil)
		if err != nil {
			return err
		}
		if answer, err := transport.RoundTrip(request); err == nil {
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-again.C:
		case <-p.ended:
			return fmt.Errorf("it has ended: %w", p.err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (p *process) Endpoint() string { return p.endpoint }

// Close kills the etcd, whose data nobody needs, and removes its folder.
func (p *process) Close() error {
	_ = p.command.Process.Kill() // an error says that it has ended
	<-p.ended
	return os.RemoveAll(p.dir)
}

func (p *process) logFile() string { return filepath.Join(p.dir, "log") }

// log returns the end of the log.
func (p *process) log() []byte {
	text, err := os.ReadFile(p.logFile())
	if err != nil {
		return []byte(err.Error())
	}
	return bytes.TrimSpace(text[max(0, len(text)-logShown):])
}
