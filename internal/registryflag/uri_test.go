package registryflag

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/embedded"
)

func TestRegistryURIs(t *testing.T) {
	for _, c := range []struct {
		uri    string
		secure bool
		want   []string
		config *embedded.Config
	}{
		{"http://h:1", false, []string{"http://h:1"}, nil},
		{"HTTP://h", false, []string{"http://h"}, nil},
		{"http://h:1/", false, []string{"http://h:1/"}, nil},
		{"http://[::1]:1", false, []string{"http://[::1]:1"}, nil},
		{"http://a:1,b:2", false, []string{"http://a:1", "http://b:2"}, nil},
		{"http://a:1,http://b:2", false, []string{"http://a:1", "http://b:2"}, nil},
		{"https://a:1, b:2", true, []string{"https://a:1", "https://b:2"}, nil},
		{"etcd://a:1,b:2", false, []string{"http://a:1", "http://b:2"}, nil},
		{"etcd://a:1,etcd://b:2", true, []string{"https://a:1", "https://b:2"}, nil},
		{"embedded:", false, []string{"https://127.0.0.1:2379"}, &embedded.Config{Port: 2379}},
		{"embedded:99", false, []string{"https://127.0.0.1:99"}, &embedded.Config{Port: 99}},
		{"embedded:99/a/b", false, []string{"https://127.0.0.1:99"}, &embedded.Config{Port: 99, Dir: "a/b"}},
		{"embedded:99//a@b", false, []string{"https://127.0.0.1:99"}, &embedded.Config{Port: 99, Dir: "/a@b"}},
	} {
		t.Run(c.uri, func(t *testing.T) {
			endpoints, config, err := parseRegistry(c.uri, c.secure)
			require.NoError(t, err)
			require.Equal(t, c.want, endpoints)
			require.Equal(t, c.config, config)
		})
	}
}
