// Real nodes on loopback, and a browser to look at their pages with. Nothing here
// stands in for anything: the program is bin/talka, the browser Chromium.
import { spawn, execFile } from 'node:child_process'
import { mkdtemp, mkdir, rm, writeFile } from 'node:fs/promises'
import { openSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'
import { chromium } from 'playwright-core'
import { AXE } from './axe.mjs'

const run = promisify(execFile)
const root = path.resolve(import.meta.dirname, '../../../..')
const exe = process.env.TALKA_TEST_BIN ?? path.join(root, 'bin/talka')
export const shots = path.join(root, 'bin/page-shots')

export class Node {
  constructor(grid, name, flags) {
    Object.assign(this, { grid, name, flags, verb: ['up'], preset: ['--preset', 'all-out'], dir: path.join(grid.dir, name) })
  }

  /** Starts the node's process and waits until it is up. */
  async start() {
    await mkdir(this.dir, { recursive: true })
    const log = openSync(path.join(this.dir, 'log'), 'a')
    this.process = spawn(
      exe,
      ['--dir', this.dir, '--json', ...this.verb, '--network', this.grid.network, ...this.preset, '--listen', '/ip4/127.0.0.1/udp/0/quic-v1', ...this.flags],
      { stdio: ['ignore', 'pipe', log] },
    )
    this.exited = new Promise((done) => this.process.once('exit', done))
    const lines = createInterface(this.process.stdout)
    this.banner = await new Promise((up, failed) => {
      lines.once('line', (l) => up(JSON.parse(l)))
      this.process.once('exit', (code) => failed(new Error(`node ${this.name} ended with ${code}`)))
    })
  }

  async stop() {
    if (this.process?.exitCode !== null) return
    this.process.kill('SIGTERM')
    await this.exited
  }

  /** Runs a command of this node and returns its JSON. */
  async talka(...args) {
    const { stdout } = await run(exe, ['--dir', this.dir, '--json', ...args])
    return JSON.parse(stdout.trim().split('\n').at(-1))
  }

  /** Makes a pairing code by the command, and says when it was used. */
  async offer(...args) {
    const child = spawn(exe, ['--dir', this.dir, '--json', 'pair', ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
    const lines = createInterface(child.stdout)[Symbol.asyncIterator]()
    const { code } = JSON.parse((await lines.next()).value)
    return { code, paired: lines.next().then(({ value }) => JSON.parse(value)) }
  }

  async link() {
    return (await this.talka('open', '--print')).url
  }
}

export class Grid {
  /** A network of its own with no node yet. */
  static async make() {
    const g = new Grid()
    g.dir = await mkdtemp(path.join(tmpdir(), 'talka-page-'))
    g.network = `page-${process.pid}-${Date.now()}`
    g.nodes = []
    await mkdir(shots, { recursive: true })
    return g
  }

  async node(name, ...flags) {
    if (this.nodes.length) flags.push('--join', (await this.nodes[0].talka('invite')).invite)
    return this.newcomer(name, {}, ...flags)
  }

  /** A node that knows nobody. */
  async newcomer(name, how, ...flags) {
    const n = Object.assign(new Node(this, name, flags), how)
    this.nodes.push(n)
    await n.start()
    return n
  }

  /** The program of testdata, for a job file beside it. */
  async picture() {
    const out = path.join(this.dir, 'picture.wasm')
    await run('go', ['build', '-trimpath', '-o', out, './testdata/picture'], {
      cwd: path.dirname(import.meta.dirname),
      env: { ...process.env, GOOS: 'wasip1', GOARCH: 'wasm', CGO_ENABLED: '0' },
    })
    return out
  }

  /** Submits a job of so many units that draw pictures; returns its id. */
  async submit(node, project, units, error = 0.05) {
    const file = path.join(this.dir, `job-${units}.toml`)
    await writeFile(
      file,
      `name = "mandelbrot-${units}"\nprogram = "picture.wasm"\n[units]\ncount = ${units}\nargs = ["{unit}"]\n[limits]\nmemory = "64MiB"\ntime = "30s"\n[verify]\nerror = ${error}\n`,
    )
    return (await node.talka('job', 'submit', '--project', project, file)).job
  }

  async close() {
    await Promise.all(this.nodes.map((n) => n.stop()))
    await rm(this.dir, { recursive: true, force: true })
  }
}

export const browse = () => chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: process.getuid() === 0 ? ['--no-sandbox'] : [] })

/**
 * A tab of a browser's own profile. Whatever the page complains of (errors,
 * broken policy) ends up in its `complaints`.
 */
export async function tab(browser, options = {}) {
  const context = await browser.newContext({ locale: 'en-GB', viewport: { width: 1280, height: 860 }, ...options })
  context.setDefaultTimeout(90_000) // for machines that do other things, too
  const page = await context.newPage()
  page.complaints = []
  page.on('pageerror', (e) => page.complaints.push(String(e)))
  page.on('console', (m) => m.type() === 'error' && !/Failed to load resource|ERR_CONNECTION/.test(m.text()) && page.complaints.push(m.text()))
  return page
}

/** What axe finds wrong with the page as it stands, in words. */
export async function axe(page) {
  const found = await page.evaluate(AXE)
  return found.map((v) => `${v.id}: ${v.help}: ${v.nodes.map((n) => n.target + ' ' + (n.any[0]?.message ?? '')).join(' | ')}`)
}

/** Keeps a picture of the page for people to look at. */
export const shot = (page, name) => page.screenshot({ path: path.join(shots, `${name}.png`), fullPage: true })
