package main

import (
	"context"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/testcommand"
	"github.com/libcluster/libcluster/internal/testetcd"
)

func TestMain(m *testing.M) { testetcd.Main(m) }

// container is how a manifest has the program started and asked. What else there is in it the
// tool manifests of internal/tools checks.
type container struct {
	Args []string
	Env  []struct{ Name string }

	LivenessProbe, ReadinessProbe struct{ HTTPGet struct{ Path string } }
}

// containerOf reads the container of the last object in a manifest.
func containerOf(t *testing.T, name string) container {
	t.Helper()
	text, err := os.ReadFile("../kubernetes/" + name)
	require.NoError(t, err)
	objects := strings.Split(string(text), "\n---\n")
	var object struct {
		Spec struct {
			Template struct {
				Spec struct{ Containers []container }
			}
		}
	}
	require.NoError(t, yaml.Unmarshal([]byte(objects[len(objects)-1]), &object))
	require.Len(t, object.Spec.Template.Spec.Containers, 1)
	return object.Spec.Template.Spec.Containers[0]
}

// start starts the program as Kubernetes does, but with the tests' etcd and a free port, and waits
// until it is ready. It returns the program's URL.
func (c container) start(t *testing.T, pod string) (*testcommand.Running, string) {
	t.Helper()
	require.Len(t, c.Env, 2)
	require.Equal(t, "POD_NAME", c.Env[0].Name)
	t.Setenv(c.Env[1].Name, "of sixteen bytes or more") // the token
	var args []string
	for _, arg := range c.Args {
		args = append(args, strings.NewReplacer("$(POD_NAME)", pod, "http://etcd:2379", testetcd.URL(t), ":7070", ":0").Replace(arg))
	}
	p := testcommand.Start(t, func(ctx context.Context, args []string, stdout, stderr io.Writer) int {
		if err := run(ctx, args, stdout); err != nil {
			_, _ = io.WriteString(stderr, err.Error())
			return 1
		}
		return 0
	}, args...)
	p.Stdout.AwaitText(t, "\n")
	found := regexp.MustCompile(`^(\S+) serves http://\S+:(\d+)\n`).FindStringSubmatch(p.Stdout.String())
	require.NotNil(t, found, "%s", p.Stdout)
	require.Equal(t, pod, found[1])
	url := "http://127.0.0.1:" + found[2]
	for began := time.Now(); status(t, url+c.ReadinessProbe.HTTPGet.Path) != http.StatusOK; {
		require.Less(t, time.Since(began), testetcd.Patience, "%s", p.Stderr)
	}
	return p, url
}

func status(t *testing.T, url string) int {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: testetcd.Patience}
	answer, err := client.Get(url)
	require.NoError(t, err)
	answer.Body.Close()
	return answer.StatusCode
}

// await waits until the cluster is as done says.
func await(t *testing.T, what string, done func(libcluster.Coverage) bool) {
	t.Helper()
	watcher, err := libcluster.New(libcluster.Config{
		Key: "mailer", Passive: true, Mode: libcluster.ModeCooperative, Partitions: 64, Registry: libcluster.Etcd(testetcd.URL(t)),
	})
	require.NoError(t, err)
	require.NoError(t, watcher.Join(t.Context()))
	defer watcher.Leave(t.Context())
	for began := time.Now(); ; {
		c, err := watcher.Coverage(t.Context())
		require.NoError(t, err)
		if done(c) {
			return
		}
		require.Less(t, time.Since(began), testetcd.Patience, "waited in vain until %s: %+v", what, c)
	}
}

func shared(c libcluster.Coverage) bool { return c.Covered && len(c.Assignments) == 2 }

func TestProgramRunsAsTheManifestsHaveIt(t *testing.T) {
	for _, name := range []string{"deployment.yaml", "statefulset.yaml"} {
		t.Run(name, func(t *testing.T) {
			c := containerOf(t, name)
			a, url := c.start(t, "mailer-0")
			b, _ := c.start(t, "mailer-1")
			await(t, "both have their share", shared)
			require.Equal(t, http.StatusOK, status(t, url+c.LivenessProbe.HTTPGet.Path))
			require.Equal(t, http.StatusUnauthorized, status(t, url+"/v1/members"), "without the token")

			b.Signal()
			require.Zero(t, b.Ends(t), "%s", b.Stderr)
			if name == "deployment.yaml" {
				await(t, "the other has all", func(c libcluster.Coverage) bool { return c.Covered && len(c.Assignments) == 1 })
			} else {
				await(t, "its share is reserved", func(c libcluster.Coverage) bool {
					return len(c.Problems) > 0 && c.Problems[0].Kind == libcluster.ProblemReserved && c.Problems[0].ID == "mailer-1"
				})
				b, _ = c.start(t, "mailer-1")
				await(t, "it has its share again", shared)
				b.Signal()
				require.Zero(t, b.Ends(t), "%s", b.Stderr)
			}
			a.Signal()
			require.Zero(t, a.Ends(t), "%s", a.Stderr)
		})
	}
}
