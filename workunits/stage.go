package workunits

import "fmt"

// MaxStageInputs is how many units a job with a second stage may have: their
// results stand in one record.
const MaxStageInputs = 50_000

// maxStageRecord bounds that record, in bytes.
const maxStageRecord = MaxStageInputs*(32+2) + 64

// StageInputs is the record of what a second stage works on: the digests of the
// accepted results of all units, in unit order. The digest of the record stands
// in the grants of the second stage, so that a copy made from other results is
// void and not wrong, and names the record for those who fetch it.
//
// In the tree of the second stage each unit has a folder named by its number in
// six digits, in which stand what it came to, its standard output and its files:
//
//	/units/000017/status    "exit 0", "trap WORDS" or "output limit", and a newline
//	/units/000017/stdout
//	/units/000017/out/...   as the unit left /out
type StageInputs struct {
	Results []Digest `cbor:"results"`
}

// Encode returns the record and its digest.
func (s StageInputs) Encode() ([]byte, Digest) {
	b := Encode(s)
	return b, Sum(b)
}

// ParseStageInputs reads the record for a job of so many units.
func ParseStageInputs(b []byte, units uint32) (StageInputs, error) {
	s, err := Decode[StageInputs](b, maxStageRecord)
	if err == nil && len(s.Results) != int(units) {
		err = fmt.Errorf("results of %d units, the job has %d", len(s.Results), units)
	}
	return s, err
}

// StageTop is the folder of all results in the tree of the second stage.
const StageTop = "units"

// StageFolder is the folder of a unit's result in the tree of the second stage.
func StageFolder(unit uint32) string { return fmt.Sprintf("%s/%06d", StageTop, unit) }

// Status says in a line how a run ended, as the second stage reads it.
func (o Outcome) Status() string {
	switch o.How {
	case Exited:
		return fmt.Sprintf("exit %d\n", o.Code)
	case Trapped:
		return fmt.Sprintf("trap %s\n", o.Trap)
	}
	return string(o.How) + "\n"
}
