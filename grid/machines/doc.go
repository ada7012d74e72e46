// Package machines lets the nodes of one owner know each other: it pairs them by a
// code, carries requests from one to another, and cuts off what was lost. There is
// no account and nothing between the nodes but their network.
//
// # What it promises
//
// Every node keeps a list of its owner's other machines. An entry says what that
// machine may do here ([Role]), which is decided here, when the two are paired, and
// never grows without a new pairing. A node that is not on the list learns nothing
// and can do nothing. The list is kept in the data directory, changed as a whole and
// durable before anybody is told of a change.
//
// # Pairing
//
// One machine makes a code ([Set.Offer]), the other gets it ([Set.Join]). The code
// holds the maker's id, where it is, what it calls itself, what it lets the other do,
// and a secret of 128 random bits. It is copied or scanned, not typed from memory: so
// it need not be a password, and a message authentication code over it is as good as
// a password-authenticated exchange (PAKE) and much less to get wrong. It is good
// once, for ten minutes, while whoever asked for it waits, and five wrong tries void
// it. Guessing is hopeless anyhow; the tries bound what a stranger may cost, and the
// price is that a stranger who comes at the right moment can void a code, which the
// owner is told.
//
// On a stream of the network, which has proven both ids to each other already:
//
//	joiner -> maker   hello      name, role for the maker, addresses, 32 random bytes
//	maker  -> joiner  challenge  name, role for the joiner, 32 random bytes
//	joiner -> maker   proof      HMAC-SHA256(secret, "joiner" | network, both ids, hello, challenge)
//	maker  -> joiner  proof      the same with "maker"
//
// The maker uses the code up and writes its list before it answers with its proof, the
// joiner writes when that came; what the maker asks meanwhile waits. A recorded exchange
// is worth nothing: the secret is gone and the random bytes are others. A code that leaks after it was used is worth nothing.
// A code that leaks before is worth what it says: nobody else must see it.
//
// # Requests
//
// A stream carries one request and its answer. They are requests of the node's local
// interface ([Config.Answer]), which knows the operations that other machines may ask
// for and what each role may; this package knows who asks. Sizes, times and the
// number of streams are bounded both ways, and the answer is as hostile as any peer's.
//
// # Cutting off
//
// Either side may end a pairing at any time, here and now: the other is refused from
// then on. A machine that is lost can be removed at any other ([Set.Remove]). That one
// tells all machines that let it control them, as soon as each can be reached, days later
// if need be; they drop the lost one and tell others in their turn. So whoever may
// control a machine may make it forget others, and no more: the worst that a stolen
// machine can do with it is to make its owner pair anew. A word travels once: each has a
// number of its own, and a machine that was paired again after it is not dropped by it.
// What cannot be told is told to the owner: machines that let this one only look.
//
// # Introductions
//
// Pairing is between two machines. With three, the one that knows both others may
// make them known to each other, when its owner says so ([Set.Introduce]) and never
// by itself. They accept that from a machine that may control them. It gives
// away nothing: such a machine could do for the third whatever it lets it do.
// But it would outlast the machine that introduced, so an introduced machine
// goes with the one that introduced it; and who was removed comes back by a code only.
//
// # Concurrency
//
// A [Set] is safe for concurrent use. Run tells removals until its context ends.
package machines
