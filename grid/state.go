package grid

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

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
}

// stateDB is what a node knows durably beside its chunks: jobs, the segments of
// their ledgers, small results, and its owner's projects. A write has reached
// the disk when it returns; no context ends it half-way. It is safe for concurrent
// use.
type stateDB struct{ db *sql.DB }

// openState opens or makes the database file.
func openState(path string) (*stateDB, error) {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=busy_timeout(5000)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	s := &stateDB{db}
	if err := s.migrate(); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), db.Close())
	}
	return s, nil
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

func (s *stateDB) close() error { return s.db.Close() }

// writes is what one transaction makes durable.
type writes struct {
	segments []jobSegment
	records  [][]byte
}

type jobSegment struct {
	job workunits.JobID
	raw []byte
}

func (w *writes) empty() bool { return len(w.segments)+len(w.records) == 0 }

// write makes segments and records durable together.
func (s *stateDB) write(w writes) error {
	tx, err := s.db.BeginTx(context.Background(), nil)
	if err != nil {
		return err
	}
	for _, g := range w.segments {
		if _, err := tx.ExecContext(context.Background(), "INSERT INTO segments (job, raw) VALUES (?, ?)", g.job[:], g.raw); err != nil {
			return errors.Join(err, tx.Rollback())
		}
	}
	for _, r := range w.records {
		d := workunits.Sum(r)
		if _, err := tx.ExecContext(context.Background(), "INSERT OR IGNORE INTO records (digest, raw) VALUES (?, ?)", d[:], r); err != nil {
			return errors.Join(err, tx.Rollback())
		}
	}
	return tx.Commit()
}

// record returns a small result, nil if it is not here.
func (s *stateDB) record(d workunits.Digest) (raw []byte) {
	if s.db.QueryRowContext(context.Background(), "SELECT raw FROM records WHERE digest = ?", d[:]).Scan(&raw) != nil || workunits.Sum(raw) != d {
		return nil
	}
	return raw
}

func (s *stateDB) addJob(id workunits.JobID, manifest []byte) error {
	_, err := s.db.ExecContext(context.Background(), "INSERT OR IGNORE INTO jobs (job, manifest) VALUES (?, ?)", id[:], manifest)
	return err
}

func (s *stateDB) endJob(id workunits.JobID, credit int) error {
	_, err := s.db.ExecContext(context.Background(), "UPDATE jobs SET ended = 1, credit = ? WHERE job = ?", credit, id[:])
	return err
}

// storedJob is a job as the disk knows it beside its ledger. Its credit is that
// of its end.
type storedJob struct {
	manifest []byte // signed
	ended    bool
	credit   int
}

// jobs lists all jobs known.
func (s *stateDB) jobs() (list []storedJob, err error) {
	rows, err := s.db.QueryContext(context.Background(), "SELECT manifest, ended, credit FROM jobs")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var j storedJob
		if err := rows.Scan(&j.manifest, &j.ended, &j.credit); err != nil {
			return nil, err
		}
		list = append(list, j)
	}
	return list, rows.Err()
}

// eachSegment calls f for a job's segments in the order in which they were written.
func (s *stateDB) eachSegment(ctx context.Context, id workunits.JobID, f func(raw []byte)) error {
	rows, err := s.db.QueryContext(ctx, "SELECT raw FROM segments WHERE job = ? ORDER BY id", id[:])
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var raw []byte
		if err := rows.Scan(&raw); err != nil {
			return err
		}
		f(raw)
	}
	return rows.Err()
}

func (s *stateDB) setProject(p workunits.ProjectID, own, trusted bool) error {
	_, err := s.db.ExecContext(context.Background(), `INSERT INTO projects (project, own, trusted) VALUES (?, ?, ?)
		ON CONFLICT (project) DO UPDATE SET own = max(own, excluded.own), trusted = excluded.trusted`, p.String(), own, trusted)
	return err
}

func (s *stateDB) projects() (list []ProjectInfo, err error) {
	rows, err := s.db.QueryContext(context.Background(), "SELECT project, own, trusted FROM projects ORDER BY project")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		var p ProjectInfo
		if err := rows.Scan(&name, &p.Own, &p.Trusted); err != nil {
			return nil, err
		}
		if p.Project, err = workunits.ParseProjectID(name); err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, rows.Err()
}
