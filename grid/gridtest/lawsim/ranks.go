package lawsim

import "github.com/talka-grid/talka/workunits/verdict"

// ranks counts volunteers by stake, so that verdict.Law's bar is known at every
// copy. It is a Fenwick tree: node i has the sums over a run of stakes that ends
// at i.
type ranks struct {
	sum    []int64 // of stakes
	all    int64
	staked int // volunteers with a stake
}

// move takes a volunteer from one stake to another.
func (r *ranks) move(from, to int) {
	for to >= len(r.sum) {
		r.grow()
	}
	r.add(from, -1)
	r.add(to, 1)
}

func (r *ranks) add(stake, people int) {
	if stake == 0 {
		return
	}
	r.staked += people
	r.all += int64(stake * people)
	for i := stake; i < len(r.sum); i += i & -i {
		r.sum[i] += int64(stake * people)
	}
}

// grow doubles the tree. The new half begins with the sum of the old one.
func (r *ranks) grow() {
	n := max(1024, 2*len(r.sum))
	sum := make([]int64, n)
	copy(sum, r.sum)
	if len(r.sum) > 0 {
		sum[len(r.sum)] = r.all
	}
	r.sum = sum
}

// bar is the stake of the next volunteer after the poorest that together hold at
// most a share of all.
func (r *ranks) bar(share float64) float64 {
	if r.staked < verdict.Crowd {
		return 0
	}
	at, held := 0, int64(0)
	for step := len(r.sum) / 2; step > 0; step /= 2 {
		if at+step < len(r.sum) && float64(held+r.sum[at+step]) <= share*float64(r.all) {
			at += step
			held += r.sum[at]
		}
	}
	return float64(at + 1)
}
