package workunits

// Export is all that the verdict on a job follows from, each part as it was
// published.
type Export struct {
	Manifest []byte   // signed
	Standing []byte   // the record of the table that the manifest names, if any
	Segments [][]byte // of all logs, each log in order
}
