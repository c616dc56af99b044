package testsql

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"

	"github.com/libcluster/libcluster/internal/testhost"
)

// mariaProgram returns where a program of MariaDB is. Ordinary users do not have all of
// them in PATH.
func mariaProgram(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	path := "/usr/sbin/" + name
	if _, err := os.Stat(path); err != nil {
		return "", errors.New("MariaDB is not installed: on Debian, apt-get install mariadb-server-core mariadb-client-core")
	}
	return path, nil
}

func startMariaDB(t testing.TB, ctx context.Context) (*server, error) {
	install, err := mariaProgram("mariadb-install-db")
	if err != nil {
		return nil, err
	}
	daemon, err := mariaProgram("mariadbd")
	if err != nil {
		return nil, err
	}
	s, err := newServer("mariadb", syscall.SIGKILL)
	if err != nil {
		return nil, err
	}
	port := testhost.FreePort(t)
	s.url = func(database string) string {
		return fmt.Sprintf("root@tcp(127.0.0.1:%d)/%s", port, database)
	}
	err = s.run(ctx, install, "--no-defaults", "--datadir="+s.file("data"), "--auth-root-authentication-method=normal", "--skip-test-db")
	if err == nil {
		err = s.start(ctx, "mysql", s.url(""), daemon, "--no-defaults", "--datadir="+s.file("data"),
			"--port="+strconv.Itoa(port), "--bind-address=127.0.0.1", "--socket="+s.file("socket"), "--pid-file="+s.file("pid"),
			"--innodb-flush-log-at-trx-commit=0", "--max-connections=400", "--log-warnings=1") // or it tells of each connection that is killed
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("starting MariaDB: %w", err), s.close())
	}
	return s, nil
}
