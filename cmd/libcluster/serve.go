package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/httpapi"
)

// tokenEnv is what requests need, if it is set.
const tokenEnv = "LIBCLUSTER_TOKEN"

// serving are the flags of serve.
type serving struct {
	*looking
	listen              string
	cert, key, clientCA string
}

func newServe(f *flags) *cobra.Command {
	command := &cobra.Command{
		Use:   "serve",
		Short: "Show a cluster in browsers, and to programs over HTTP",
		Long: `Serves a page that shows the cluster live, and its state as JSON and as server-sent
events, until SIGINT, SIGTERM or SIGHUP. It does not become a member. Once it has seen the
cluster it goes on through any outage.

Without a host in --listen it is for this machine only. What other machines can reach needs
LIBCLUSTER_TOKEN in the environment, of 16 bytes or more, which requests must have then as a
bearer token or as the password of a browser; or --client-ca, of client certificates.

Exit status: 0 after a signal, 1 when it cannot serve, 2 when the command line is wrong, 3
when the cluster could not be seen.`,
		Example: `  libcluster serve -k mailer -r http://etcd:2379
  curl http://127.0.0.1:7070/v1/members`,
		Args: noArguments,
	}
	s := &serving{looking: newLooking(f, command)}
	s.details = true // programs and the page are shown all
	s.line.StringVar(&s.listen, "listen", "127.0.0.1:7070", "serve at `HOST:PORT`")
	s.line.StringVar(&s.cert, "tls-cert", "", "serve with TLS: the certificate is in `FILE`")
	s.line.StringVar(&s.key, "tls-key", "", "and its key in `FILE`")
	s.line.StringVar(&s.clientCA, "client-ca", "", "let only those in who have a certificate that one in `FILE` has signed")
	s.addModes(command)
	command.RunE = func(command *cobra.Command, _ []string) error {
		told := command.Context()
		err := s.look(command, func(_ context.Context, x *looker) error { return s.serve(told, x) })
		if told.Err() != nil {
			return nil // a signal is the way to end it
		}
		return err
	}
	return command
}

// serve serves until ctx ends.
func (s *serving) serve(ctx context.Context, x *looker) error {
	options, err := s.options()
	if err != nil {
		return usageError{err}
	}
	h, err := httpapi.New(x.cluster, options...)
	if err != nil {
		return usageError{fmt.Errorf("%s: %w", tokenEnv, err)} // nothing else can be wrong
	}
	defer h.Close()
	l, err := h.Listen(s.listen)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	scheme := "http"
	if s.cert != "" {
		scheme = "https"
	}
	x.say("serving %s://%s/", scheme, l.Addr())
	return h.Serve(ctx, l)
}

// options returns who is let in, and how.
func (s *serving) options() (options []httpapi.Option, err error) {
	if token := os.Getenv(tokenEnv); token != "" {
		options = append(options, httpapi.WithToken(libcluster.NewSecret(token)))
	}
	switch {
	case (s.cert == "") != (s.key == ""):
		return nil, errors.New("--tls-cert and --tls-key: give both, or none")
	case s.cert == "" && s.clientCA != "":
		return nil, errors.New("--client-ca: needs --tls-cert and --tls-key")
	case s.cert == "":
		return options, nil
	}
	certificate, err := tls.LoadX509KeyPair(s.cert, s.key)
	if err != nil {
		return nil, fmt.Errorf("--tls-cert, --tls-key: %w", err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	if s.clientCA != "" {
		pem, err := os.ReadFile(s.clientCA)
		if err != nil {
			return nil, fmt.Errorf("--client-ca: %w", err)
		}
		config.ClientCAs, config.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
		if !config.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--client-ca: %s has no certificate", s.clientCA)
		}
	}
	return append(options, httpapi.WithTLS(config)), nil
}
