import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { minutes, paint, parts, read, write } from '../src/lib/week.js'

const vectors = JSON.parse(await readFile(new URL('../../../volunteer/policy/testdata/hours.json', import.meta.url)))

const week = (open) => open.reduce((w, [from, to]) => w.fill(1, from, to), new Uint8Array(7 * 1440))

test('a text means what it means to the node', () => {
  for (const { text, open } of vectors) assert.deepEqual(read(text), open ? week(open) : null, text)
})

test('a week is written in the usual way', () => {
  for (const text of [
    '',
    'mon-fri 18:00-08:00',
    'mon-sun 00:00-00:01',
    'mon 09:00-12:00,mon 13:00-17:00,tue-fri 09:00-17:00',
    'mon-thu 18:00-08:00,fri 18:00-24:00,sat-sun 00:00-24:00',
    'sat-sun 00:00-24:00',
    'sun-mon 06:30-07:45',
    'sun 22:30-02:00',
    'wed 00:30-00:30',
  ]) assert.equal(write(read(text)), text)
  for (const [text, written] of [
    ['mon-sun 00:00-24:00', ''],
    ['mon 10:00-11:00,mon 11:00-12:00', 'mon 10:00-12:00'],
    ['mon 12:00-24:00,tue 00:00-12:00', 'mon 12:00-12:00'],
    ['mon-fri 18:00-08:00,sat 00:00-24:00', 'mon-thu 18:00-08:00,fri 18:00-24:00,sat 00:00-24:00'],
  ]) assert.equal(write(read(text)), written)
  assert.equal(write(new Uint8Array(7 * 1440)), null)
})

test('what is written means the same', () => {
  let state = 1
  const random = (n) => (state = (state * 48271) % 2147483647) % n
  for (let i = 0; i < 300; i++) {
    const w = new Uint8Array(7 * 1440)
    for (let n = 1 + random(6); n; n--) {
      const from = random(w.length)
      for (let m = random(4000); m >= 0; m--) w[(from + m) % w.length] = 1
    }
    assert.deepEqual(read(write(w)), w, write(w))
  }
})

test('hours are painted, and the minutes of others stay', () => {
  const w = read('mon 09:15-09:20,mon 09:30-10:30,tue 23:00-01:00')
  assert.deepEqual([8, 9, 10, 24 + 23, 48, 49].map((h) => minutes(w, h)), [0, 35, 30, 60, 60, 0])
  assert.deepEqual(parts(w, 9), ['09:15-09:20', '09:30-10:00'])
  assert.deepEqual(parts(w, 24 + 23), ['23:00-24:00'])
  assert.equal(write(paint(w, 9, 9, true)), 'mon 09:00-10:30,tue 23:00-01:00')
  assert.equal(write(paint(w, 48 + 1, 24 + 23, false)), 'mon 09:15-09:20,mon 09:30-10:30,wed 00:00-01:00')
  assert.equal(write(paint(w, 48, 24 + 1, true)), 'mon 09:15-09:20,mon 09:30-10:30,tue 00:00-02:00,tue 23:00-02:00')
  assert.equal(write(w), 'mon 09:15-09:20,mon 09:30-10:30,tue 23:00-01:00')
})
