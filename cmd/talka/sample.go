package main

import (
	"encoding/hex"
	"time"

	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/workunits/apps"
	"github.com/talka-grid/talka/workunits/sandbox"
)

// sampleResult is the digest of what the sample prints and of its file; the same
// on every processor and engine.
const sampleResult = "2fa019786d47a6291af1f0cfc2ba8a209dd882db37d2f09f98164e3fe154c60e"

// sample is a search for a cluster of atoms, of a few seconds.
func sample() grid.Sample {
	s := grid.Sample{Program: apps.LJ(), Args: []string{"--atoms", "38", "--seed", "7", "--steps", "1500"}, Files: []string{"best.xyz"}, Limits: sandbox.Limits{Memory: 64 << 20, Output: 1 << 20, Wall: time.Minute}}
	_, _ = hex.Decode(s.Want[:], []byte(sampleResult))
	return s
}
