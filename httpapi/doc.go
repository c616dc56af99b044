// Package httpapi shows a cluster over HTTP, as one of its instances sees it: to probes, to
// programs as JSON and as server-sent events, and to people as a live page.
//
//	h, err := httpapi.New(cluster)
//	…
//	defer h.Close()
//	err = h.ListenAndServe(ctx, "127.0.0.1:7070") // or mount h in a server of your own
//
// A passive instance serves as well as a member, which makes a front end for operators.
//
// # What there is
//
//	/healthz             200: this process answers
//	/readyz              200: this instance holds an assignment, or is passive and has joined; otherwise 503
//	/v1/state            this instance's state, phase, and why it has no assignment
//	/v1/members          all members with what they hold and publish, and whom the cluster waits for
//	/v1/coverage         whether every index is held once, and what is wrong if not (it reads the registry)
//	/v1/owner?key=KEY    the member that owns a key
//	/v1/events           each state and view, as server-sent events
//	/v1/schema.json      the JSON schema of all of these
//	/                    the page
//
// There is only GET and HEAD, and an error is JSON too: {"error":{"code":…,"message":…}}.
// Names in the JSON stay; new ones may be added. What other instances have written (IDs, addresses,
// versions, metadata) is passed on as it was written, with all that is not printable escaped.
//
// # Events
//
// An event "view" has the whole picture: the state, the members and the blockers, without
// metadata and with addresses and versions of 128 bytes at most, and what has changed since
// the event before. Its ID grows, also over restarts of the process as long as its clock does.
// Who comes back with Last-Event-ID (or with ?since=ID) gets the events after that one, as long as
// they are kept. Otherwise the first event is "history", the latest changes in short, and then
// comes the newest view. The same goes for a client that is so slow that events were dropped
// meanwhile. Of changes within one moment there may be one event.
//
// Nothing is queued for a client. One that has not taken an event for 15 seconds is dropped, and
// neither the cluster nor other clients wait for it.
//
// # Who may look
//
// [Handler.ListenAndServe] listens on the loopback address unless another one is given, and
// refuses an address that other machines can reach unless there is [WithToken], or [WithTLS]
// with ClientCAs and client certificates that are verified. With a token every request needs it, as
// "Authorization: Bearer TOKEN", or, so that a browser can ask for it, as the password of
// basic authentication with any user. Only /healthz and /readyz answer without it, with nothing but
// their status. A token can be read on its way unless there is TLS.
//
// The page needs nothing from elsewhere. Its content security policy allows only its own
// files, and no text is ever taken for markup. Without JavaScript it is a table that is loaded anew
// every five seconds.
package httpapi
