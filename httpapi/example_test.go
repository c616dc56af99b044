package httpapi_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/httpapi"
)

// An instance that shows its cluster on a port of its own. A browser finds the page at /.
func Example() {
	cluster, err := libcluster.New(libcluster.Config{Key: "mailer", Registry: libcluster.Static(0, 4)})
	if err != nil {
		log.Fatal(err)
	}
	h, err := httpapi.New(cluster)
	if err != nil {
		log.Fatal(err)
	}
	defer h.Close()
	l, err := h.Listen(":0") // or another port; on the loopback address, since nothing else is said
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error)
	go func() { served <- h.Serve(ctx, l) }()

	show := func(path string) {
		answer, err := http.Get("http://" + l.Addr().String() + path)
		if err != nil {
			log.Fatal(err)
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Print(answer.StatusCode, " ", string(body))
	}
	show("/readyz")
	if err := cluster.Join(ctx); err != nil {
		log.Fatal(err)
	}
	show("/readyz")
	if err := cluster.Leave(ctx); err != nil {
		log.Fatal(err)
	}
	stop()
	if err := <-served; err != nil {
		log.Fatal(err)
	}
	http.DefaultClient.CloseIdleConnections()
	// Output:
	// 503 {"status":"not ready","phase":"left","why":"left, or never joined"}
	// 200 {"status":"ready","phase":"active"}
}
