// Package api is a node's local HTTP interface, the page that browsers show of
// it (sources in ui, built by `make ui`) and the Go client for it.
//
// # Protocol
//
// Requests and answers are JSON under /v1; /openapi.json describes every route
// and is generated from the types that the routes use. Four shapes of answer
// exist:
//
//   - one JSON value;
//   - JSON lines ([Line]), for what takes a while: progress, results, and at the
//     end either {"end":true} or a problem. A stream without its end was cut off;
//   - content by its CID under /ipfs, see the gateway's own words there;
//   - server-sent events, for what happens on the node ([Event]); a reader that
//     comes back with Last-Event-ID gets what it missed while the node's ring
//     of recent events still holds it.
//
// Errors are problem documents (RFC 9457). Their type is a URN that ends in one
// of a closed set of kinds ([Kind]); clients decide by kind, people read detail.
// A stream that fails before its first line answers with the problem and its
// status, like any other route.
//
// # Security
//
// There are two ways in. A unix socket with mode 0600 in the node's data
// directory: who can open the file is the node's owner. And a port of the
// loopback interface for browsers and programs, open while one may come in; its
// owner may give it an address that other machines reach, with a certificate and a
// name, and it is not opened there while nobody could come in. Every request
// passes, in this order, the list of allowed Host names, protection against
// cross-origin requests, authentication and the limit on bodies; then the
// operation's [Scope] is compared with what authentication granted. Each step
// denies by default, and an operation that names no scope is refused to
// everybody. The page's own files alone need no authentication: they are the
// same for all nodes.
//
// A browser signs in by a code that the socket's side asked for: good once,
// within a minute, and void for everybody when it comes again. It gets a cookie
// that scripts cannot read and a key that only the page's origin can, and needs
// both: cookies go to every port of a machine. It can do what its owner can, but
// reach no local files and let nobody in but the owner's other machines.
//
// A program comes by the same port with a token of a [Role], which its owner makes at
// the socket's side and which expires. It reaches no local files, lets nobody in and
// makes no tokens; it is for this node and reaches no other machine.
//
// The owner's other machines come in over the network, see package machines, which
// proves who asks and knows its role. They may ask for the operations that are
// mirrored and for nothing else ([Server.Answer]), and change no settings but limits
// and rules: a stolen machine can neither have other programs executed nor read files.
// What they answer is decoded into the types of this interface, so that a page or
// program that reads it meets nothing but those; its texts are as hostile as a peer's.
//
// Texts that come from peers (names, reasons, traps) are passed on as they are;
// who shows them on a screen removes control characters. Files of results are
// bytes under a policy that lets them do nothing, and pictures by their content
// only.
//
// # Concurrency
//
// [Server] and [Client] are safe for concurrent use. Callbacks of Client run on
// the caller's goroutine, one at a time.
package api
