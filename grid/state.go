package grid

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	_ "modernc.org/sqlite" // the driver named below

	"github.com/talka-grid/talka/workunits"
)

// migration brings the tables from one version to the next. Databases of version
// 1 exist with and without the column that version 2 adds: where unless finds
// a row there is nothing to change.
type migration struct{ change, unless string }

// migrations are never edited; the version of a database is how many it has had.
var migrations = []migration{
	{change: `
CREATE TABLE jobs (job BLOB PRIMARY KEY, manifest BLOB NOT NULL, ended INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE TABLE segments (id INTEGER PRIMARY KEY, job BLOB NOT NULL, raw BLOB NOT NULL);
CREATE INDEX segments_job ON segments (job, id);
CREATE TABLE records (digest BLOB PRIMARY KEY, raw BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE projects (project TEXT PRIMARY KEY, own INTEGER NOT NULL, trusted INTEGER NOT NULL) WITHOUT ROWID;`},
	{change: `ALTER TABLE jobs ADD COLUMN credit INTEGER NOT NULL DEFAULT 0`,
		unless: `SELECT 1 FROM pragma_table_info('jobs') WHERE name = 'credit'`},
	{change: `
ALTER TABLE records RENAME TO jobless;
CREATE TABLE records (digest BLOB, job BLOB, served INTEGER NOT NULL, raw BLOB NOT NULL, PRIMARY KEY (digest, job)) WITHOUT ROWID;
CREATE INDEX records_job ON records (job);
INSERT INTO records (digest, job, served, raw) SELECT digest, x'', 0, raw FROM jobless;
DROP TABLE jobless;`},
	{change: `CREATE TABLE proofs (network TEXT PRIMARY KEY, proof BLOB NOT NULL) WITHOUT ROWID;`},
	{change: `ALTER TABLE segments ADD COLUMN at INTEGER NOT NULL DEFAULT 0`},                                    // milliseconds since 1970, 0 for unknown
	{change: `ALTER TABLE jobs ADD COLUMN packed BLOB`},                                                          // replaces the segments that were here
	{change: `CREATE TABLE efforts (day INTEGER PRIMARY KEY, copies INTEGER NOT NULL, millis INTEGER NOT NULL)`}, // days since 1970
	{change: `ALTER TABLE projects ADD COLUMN share INTEGER NOT NULL DEFAULT 1`},
	{change: `CREATE TABLE pointers (project TEXT PRIMARY KEY, raw BLOB NOT NULL) WITHOUT ROWID`},
	{change: `ALTER TABLE jobs ADD COLUMN imported INTEGER NOT NULL DEFAULT 0`}, // its ledger came from a file
	{change: `ALTER TABLE jobs ADD COLUMN wronged INTEGER NOT NULL DEFAULT 0`},  // its owner was told that a copy was proven wrong
}

// stateDB is what a node knows durably beside its chunks: jobs, the segments of
// their ledgers, small results, and its owner's projects. A write has reached
// the disk when it returns; no context ends it half-way. It is safe for concurrent
// use. Single segments are read over a connection of their own, which waits for no
// write and for nobody who goes through many.
//
// A record is kept for a job, and withheld from peers until it is served. Those
// of databases of version 2 are kept for no job.
type stateDB struct {
	db, reads *sql.DB

	getSegment *sql.Stmt // of reads

	addSegment, addRecord, openRecord, getRecord, getServed *sql.Stmt
}

// openState opens or makes the database file.
func openState(path string) (*stateDB, error) {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=busy_timeout(5000)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	reads, err := sql.Open("sqlite", "file:"+path+"?mode=ro&_pragma=busy_timeout(5000)")
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	reads.SetMaxOpenConns(1)
	s := &stateDB{db: db, reads: reads}
	if err = s.migrate(); err == nil {
		err = s.prepare()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), s.close())
	}
	return s, nil
}

// prepare compiles what is executed for every result.
func (s *stateDB) prepare() (err error) {
	for _, p := range []struct {
		to   **sql.Stmt
		text string
	}{
		{&s.addSegment, "INSERT INTO segments (job, raw, at) VALUES (?, ?, ?)"},
		{&s.addRecord, `INSERT INTO records (digest, job, served, raw) VALUES (?, ?, ?, ?)
			ON CONFLICT (digest, job) DO UPDATE SET served = 1 WHERE excluded.served > served`},
		{&s.openRecord, "UPDATE records SET served = 1 WHERE digest = ? AND job IN (?, x'') AND NOT served"},
		{&s.getRecord, "SELECT raw FROM records WHERE digest = ? LIMIT 1"},
		{&s.getServed, "SELECT raw FROM records WHERE digest = ? AND served LIMIT 1"},
	} {
		if *p.to, err = s.db.PrepareContext(context.Background(), p.text); err != nil { //nolint:sqlclosecheck // with the database
			return err
		}
	}
	s.getSegment, err = s.reads.PrepareContext(context.Background(), "SELECT raw FROM segments WHERE id = ?")
	return err
}

func (s *stateDB) migrate() error {
	var v int
	if err := s.db.QueryRowContext(context.Background(), "PRAGMA user_version").Scan(&v); err != nil {
		return err
	}
	if v > len(migrations) {
		return fmt.Errorf("written by a newer Talka (schema %d, this one knows %d): update Talka", v, len(migrations))
	}
	for ; v < len(migrations); v++ {
		if err := s.migrateTo(v+1, migrations[v]); err != nil {
			return fmt.Errorf("schema %d: %w", v+1, err)
		}
	}
	return nil
}

// migrateTo makes one change and notes it, or does neither.
func (s *stateDB) migrateTo(v int, m migration) error {
	tx, err := s.db.BeginTx(context.Background(), nil)
	if err != nil {
		return err
	}
	there := 0
	if m.unless != "" {
		err = tx.QueryRowContext(context.Background(), "SELECT count(*) FROM ("+m.unless+")").Scan(&there)
	}
	if err == nil && there == 0 {
		_, err = tx.ExecContext(context.Background(), m.change)
	}
	if err == nil {
		_, err = tx.ExecContext(context.Background(), fmt.Sprintf("PRAGMA user_version = %d", v))
	}
	if err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// close ends the reads first: whoever closes last tidies up the file.
func (s *stateDB) close() error { return errors.Join(s.reads.Close(), s.db.Close()) }

// writes is what one transaction makes durable.
type writes struct {
	segments []jobSegment
	records  []jobRecord
	opened   []jobDigest // records that peers may have from now on, if they are here
}

type jobSegment struct {
	job workunits.JobID
	raw []byte
	row uint64 // once it is written
}

type jobRecord struct {
	job    workunits.JobID
	raw    []byte
	served bool
}

type jobDigest struct {
	job    workunits.JobID
	digest workunits.Digest
}

func (w *writes) empty() bool { return len(w.segments)+len(w.records)+len(w.opened) == 0 }

// write makes segments, records and openings durable together, and notes the rows of
// the segments in w.
func (s *stateDB) write(w writes) error {
	ctx := context.Background()
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := s.writeIn(ctx, tx, w); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

func (s *stateDB) writeIn(ctx context.Context, tx *sql.Tx, w writes) error {
	add := tx.StmtContext(ctx, s.addSegment) //nolint:sqlclosecheck // with the transaction
	now := time.Now().UnixMilli()
	for i, g := range w.segments {
		r, err := add.ExecContext(ctx, g.job[:], g.raw, now)
		if err != nil {
			return err
		}
		id, err := r.LastInsertId()
		if err != nil {
			return err
		}
		w.segments[i].row = uint64(id)
	}
	add = tx.StmtContext(ctx, s.addRecord) //nolint:sqlclosecheck // with the transaction
	for _, r := range w.records {
		d := workunits.Sum(r.raw)
		if _, err := add.ExecContext(ctx, d[:], r.job[:], r.served, r.raw); err != nil {
			return err
		}
	}
	open := tx.StmtContext(ctx, s.openRecord) //nolint:sqlclosecheck // with the transaction
	for _, o := range w.opened {
		if _, err := open.ExecContext(ctx, o.digest[:], o.job[:]); err != nil {
			return err
		}
	}
	return nil
}

// record returns a small result, nil if it is not here.
func (s *stateDB) record(d workunits.Digest) []byte { return readRecord(s.getRecord, d) }

// served returns a small result that peers may have, nil if there is no such one.
func (s *stateDB) served(d workunits.Digest) []byte { return readRecord(s.getServed, d) }

func readRecord(get *sql.Stmt, d workunits.Digest) (raw []byte) {
	if get.QueryRowContext(context.Background(), d[:]).Scan(&raw) != nil || workunits.Sum(raw) != d {
		return nil
	}
	return raw
}

// dropRecords forgets the small results that are kept for a job.
func (s *stateDB) dropRecords(id workunits.JobID) error {
	_, err := s.db.ExecContext(context.Background(), "DELETE FROM records WHERE job = ?", id[:])
	return err
}

func (s *stateDB) addJob(id workunits.JobID, manifest []byte) error {
	_, err := s.db.ExecContext(context.Background(), "INSERT OR IGNORE INTO jobs (job, manifest) VALUES (?, ?)", id[:], manifest)
	return err
}

// importJob notes that a job's ledger came from a file.
func (s *stateDB) importJob(id workunits.JobID) error {
	_, err := s.db.ExecContext(context.Background(), "UPDATE jobs SET imported = 1 WHERE job = ?", id[:])
	return err
}

// wrongJob notes that the owner was told of a copy that was proven wrong.
func (s *stateDB) wrongJob(id workunits.JobID) error {
	_, err := s.db.ExecContext(context.Background(), "UPDATE jobs SET wronged = 1 WHERE job = ?", id[:])
	return err
}

func (s *stateDB) endJob(id workunits.JobID, at uint64, credit int) error {
	_, err := s.db.ExecContext(context.Background(), "UPDATE jobs SET ended = ?, credit = ? WHERE job = ?", int64(at), credit, id[:])
	return err
}

// pack replaces a job's segments by the record of what became of them.
func (s *stateDB) pack(id workunits.JobID, credit int, record []byte) error {
	ctx := context.Background()
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "UPDATE jobs SET packed = ?, credit = ? WHERE job = ?", record, credit, id[:])
	if err == nil {
		_, err = tx.ExecContext(ctx, "DELETE FROM segments WHERE job = ?", id[:])
	}
	if err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// shrink gives the disk back what is free in the file, if that is most of it.
func (s *stateDB) shrink() error {
	ctx := context.Background()
	var free, pages int
	err := s.db.QueryRowContext(ctx, "SELECT freelist_count, page_count FROM pragma_freelist_count, pragma_page_count").Scan(&free, &pages)
	if err == nil && free > pages/2 {
		_, err = s.db.ExecContext(ctx, "VACUUM")
	}
	return err
}

// storedJob is a job as the disk knows it beside its ledger. Its credit is that
// of its end.
type storedJob struct {
	manifest []byte // signed
	ended    uint64 // milliseconds since 1970, 0 if it has not
	credit   int
	packed   []byte // what pack wrote, nil if it did not
	imported bool
	wronged  bool
	rows     bool // there are segments
}

// jobs lists all jobs known.
func (s *stateDB) jobs() (list []storedJob, err error) {
	rows, err := s.db.QueryContext(context.Background(), `SELECT manifest, ended, credit, packed, imported, wronged,
		EXISTS (SELECT 1 FROM segments WHERE segments.job = jobs.job) FROM jobs`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var j storedJob
		if err := rows.Scan(&j.manifest, &j.ended, &j.credit, &j.packed, &j.imported, &j.wronged, &j.rows); err != nil {
			return nil, err
		}
		list = append(list, j)
	}
	return list, rows.Err()
}

// segment is the one in a row.
func (s *stateDB) segment(row uint64) (raw []byte, err error) {
	err = s.getSegment.QueryRowContext(context.Background(), int64(row)).Scan(&raw)
	return raw, err
}

// segmentRows lists the rows of a job's segments, ascending.
func (s *stateDB) segmentRows(ctx context.Context, id workunits.JobID) (list []uint64, err error) {
	rows, err := s.db.QueryContext(ctx, "SELECT id FROM segments WHERE job = ? ORDER BY id", id[:])
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var row int64
		if err := rows.Scan(&row); err != nil {
			return nil, err
		}
		list = append(list, uint64(row))
	}
	return list, rows.Err()
}

// eachSegment calls f for a job's segments, with their rows, in the order in which
// they were written.
func (s *stateDB) eachSegment(ctx context.Context, id workunits.JobID, f func(raw []byte, row uint64)) error {
	rows, err := s.db.QueryContext(ctx, "SELECT raw, id FROM segments WHERE job = ? ORDER BY id", id[:])
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var raw []byte
		var row int64
		if err := rows.Scan(&raw, &row); err != nil {
			return err
		}
		f(raw, uint64(row))
	}
	return rows.Err()
}

// times tells when segments with statements of a job were written, as far as that
// is known.
func (s *stateDB) times(ctx context.Context, id workunits.JobID, list []workunits.Ref) (map[workunits.Ref]time.Time, error) {
	at := map[workunits.Ref]time.Time{}
	rows, err := s.db.QueryContext(ctx, "SELECT raw, at FROM segments WHERE job = ? AND at > 0 ORDER BY id", id[:])
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var raw sql.RawBytes
		var ms int64
		if err := rows.Scan(&raw, &ms); err != nil {
			return nil, err
		}
		g, err := workunits.Decode[workunits.Segment](raw, workunits.MaxSegment)
		if err != nil {
			continue
		}
		for _, r := range list {
			if _, known := at[r]; !known && r.Author == g.Author && r.Seq >= g.Seq && r.Seq < g.Seq+uint64(len(g.Statements)) {
				at[r] = time.UnixMilli(ms)
			}
		}
	}
	return at, rows.Err()
}

func (s *stateDB) setProject(p workunits.ProjectID, own, trusted bool) error {
	_, err := s.db.ExecContext(context.Background(), `INSERT INTO projects (project, own, trusted) VALUES (?, ?, ?)
		ON CONFLICT (project) DO UPDATE SET own = max(own, excluded.own), trusted = excluded.trusted`, p.String(), own, trusted)
	return err
}

// setShare changes the share of a project that is known.
func (s *stateDB) setShare(p workunits.ProjectID, share int) error {
	_, err := s.db.ExecContext(context.Background(), "UPDATE projects SET share = ? WHERE project = ?", share, p.String())
	return err
}

func (s *stateDB) setProof(network string, proof []byte) error {
	_, err := s.db.ExecContext(context.Background(), "INSERT OR REPLACE INTO proofs (network, proof) VALUES (?, ?)", network, proof)
	return err
}

// proof is a node's proof of work in a network, nil before it was found.
func (s *stateDB) proof(network string) (proof []byte, err error) {
	err = s.db.QueryRowContext(context.Background(), "SELECT proof FROM proofs WHERE network = ?", network).Scan(&proof)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return proof, err
}

func (s *stateDB) projects() (list []ProjectInfo, err error) {
	rows, err := s.db.QueryContext(context.Background(), "SELECT project, own, trusted, share FROM projects ORDER BY project")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		var p ProjectInfo
		if err := rows.Scan(&name, &p.Own, &p.Trusted, &p.Share); err != nil {
			return nil, err
		}
		if p.Project, err = workunits.ParseProjectID(name); err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, rows.Err()
}

// addEfforts adds to what was executed on some days.
func (s *stateDB) addEfforts(days map[int64]effort) error {
	tx, err := s.db.BeginTx(context.Background(), nil)
	if err != nil {
		return err
	}
	for day, e := range days {
		if err == nil {
			_, err = tx.ExecContext(context.Background(), `INSERT INTO efforts (day, copies, millis) VALUES (?, ?, ?)
				ON CONFLICT (day) DO UPDATE SET copies = copies + excluded.copies, millis = millis + excluded.millis`, day, int64(e.copies), int64(e.millis))
		}
	}
	if err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// efforts is what was executed, by day.
func (s *stateDB) efforts() (map[int64]effort, error) {
	rows, err := s.db.QueryContext(context.Background(), "SELECT day, copies, millis FROM efforts")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	days := map[int64]effort{}
	for rows.Next() {
		var day, copies, millis int64
		if err := rows.Scan(&day, &copies, &millis); err != nil {
			return nil, err
		}
		days[day] = effort{uint64(max(copies, 0)), uint64(max(millis, 0))}
	}
	return days, rows.Err()
}

// setPointer keeps a project's pointer.
func (s *stateDB) setPointer(p workunits.ProjectID, raw []byte) error {
	_, err := s.db.ExecContext(context.Background(), `INSERT INTO pointers (project, raw) VALUES (?, ?) ON CONFLICT (project) DO UPDATE SET raw = excluded.raw`, p.String(), raw)
	return err
}

// pointers returns what setPointer kept.
func (s *stateDB) pointers() (list [][]byte, err error) {
	rows, err := s.db.QueryContext(context.Background(), `SELECT raw FROM pointers ORDER BY project`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var raw []byte
		if err := rows.Scan(&raw); err != nil {
			return nil, err
		}
		list = append(list, raw)
	}
	return list, rows.Err()
}
