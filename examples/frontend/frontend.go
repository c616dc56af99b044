package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"

	"github.com/libcluster/libcluster"
)

// runFrontend is a front end, until ctx ends.
func runFrontend(ctx context.Context, l net.Listener, registry libcluster.Registry) error {
	cluster, err := newCluster(registry, "")
	if err != nil {
		return err
	}
	if err := cluster.Join(ctx); err != nil {
		return err
	}
	return errors.Join(serve(ctx, l, frontend(cluster)), cluster.Leave(ctx))
}

// frontend passes requests on to their owners.
func frontend(cluster *libcluster.Cluster) http.Handler {
	later := func(w http.ResponseWriter, why string) {
		w.Header().Set("Retry-After", "1")
		http.Error(w, why, http.StatusServiceUnavailable)
	}
	routes := http.NewServeMux()
	routes.HandleFunc("/accounts/{account}", func(w http.ResponseWriter, r *http.Request) {
		owner, ok := cluster.OwnerOf(r.PathValue("account"))
		if !ok {
			later(w, "the account is being handed over, or there is no back end")
			return
		}
		proxy := httputil.ReverseProxy{
			Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: owner.Address}) },
			ModifyResponse: func(r *http.Response) error {
				if r.StatusCode == http.StatusMisdirectedRequest { // one of both knew it sooner
					return errors.New("the account has moved")
				}
				return nil
			},
			ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) { later(w, err.Error()) },
		}
		proxy.ServeHTTP(w, r)
	})
	return routes
}
