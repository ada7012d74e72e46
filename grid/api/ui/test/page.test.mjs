import assert from 'node:assert/strict'
import { EventEmitter, once } from 'node:events'
import { after, afterEach, before, test } from 'node:test'
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { axe, browse, Grid, shot, tab } from './grid.mjs'

const SCREENS = ['now', 'impact', 'network', 'projects', 'jobs', 'machines', 'data', 'rules', 'diagnostics']
const UNITS = 16

let grid, browser, publisher, volunteer, second, project

before(async () => {
  grid = await Grid.make()
  ;[browser, publisher] = await Promise.all([browse(), grid.node('publisher'), grid.picture()])
  volunteer = await grid.node('volunteer', '--steward=false')
  second = await grid.node('second', '--steward=false')
  project = (await publisher.talka('project', 'new', 'tiles')).project
})

// Tabs that nobody looks at any more would be in the way of figures. What answers for
// the node in one of them ends first, or it would fail.
afterEach(() =>
  Promise.all(
    browser.contexts().map(async (c) => {
      await Promise.all(c.pages().map((p) => p.unrouteAll({ behavior: 'wait' })))
      await c.close()
    }),
  ),
)

after(async () => {
  await browser?.close()
  await grid?.close()
})

/** A tab that is signed in to a node's page. */
async function signedIn(node, options) {
  const page = await tab(browser, options)
  await page.goto(await node.link())
  await page.getByRole('status').filter({ hasText: /^Live$/ }).waitFor({ state: 'attached' })
  return page
}

const go = (page, name) => page.getByRole('navigation').getByRole('link', { name, exact: true }).click()

test('a link signs one browser in, once', async () => {
  const url = await volunteer.link()
  const page = await tab(browser)
  await page.goto(url)
  await page.getByRole('heading', { level: 1, name: 'Waiting' }).waitFor()
  assert.ok(!page.url().includes('code='), 'the code stays in the address')
  assert.ok(!(await page.evaluate(() => document.cookie)), 'scripts can read the cookie')

  const thief = await tab(browser)
  await thief.goto(url)
  await thief.getByRole('alert').filter({ hasText: 'has been used' }).waitFor()
  await shot(thief, 'out')
  // The code was stolen by one of the two: neither may stay.
  await page.reload()
  await page.getByRole('heading', { name: 'Sign in to this node' }).waitFor()
  assert.deepEqual(page.complaints, [])
})

test('the first run: how much, for whom, the network, a sample', async (t) => {
  const fresh = await grid.newcomer('fresh', { preset: [] })
  const page = await tab(browser)
  await page.goto(await fresh.link())
  await page.getByRole('heading', { level: 1, name: 'Welcome to Talka' }).waitFor()
  assert.equal((await fresh.talka('config', 'get', 'preset')).source, 'default')
  await page.getByLabel('Balanced').check()
  await page.getByText('Nobody is connected').or(page.getByText('this machine only')).first().waitFor()
  await page.getByLabel('Invite from another node').fill((await publisher.talka('invite')).invite)
  await page.getByRole('button', { name: 'Join' }).click()
  await page.getByText('Joined', { exact: true }).waitFor()
  const began = Date.now()
  await page.getByRole('button', { name: 'Run the sample' }).click()
  await page.getByRole('status').getByText('units, all right').waitFor()
  t.diagnostic(`a sample after ${Date.now() - began} ms`)
  assert.equal((await fresh.talka('config', 'get', 'preset')).value, '"balanced"')
  const why = await fresh.talka('why')
  assert.ok(why.processors >= 1 && why.measured.cpu > 0.1, JSON.stringify(why))
  assert.deepEqual(await axe(page), [])
  await shot(page, 'welcome')
  await page.setViewportSize({ width: 360, height: 740 })
  await shot(page, 'welcome-phone')
  await page.getByRole('button', { name: /^Done/ }).click()
  await page.getByRole('heading', { level: 1, name: 'Waiting' }).waitFor()
  await page.reload()
  await page.getByRole('heading', { level: 1, name: 'Waiting' }).waitFor()
  assert.deepEqual(page.complaints, [])
  await fresh.stop()
})

test('pause with its reason, and resume', async () => {
  const page = await signedIn(volunteer)
  await page.getByLabel('Pause for').selectOption('2 hours')
  await page.getByRole('button', { name: 'Pause' }).click()
  await page.getByRole('heading', { name: 'Paused' }).waitFor()
  await page.getByText(/^By you\. Resumes (at|on)/).waitFor()
  assert.equal((await volunteer.talka('status')).state, 'paused')
  await shot(page, 'paused')
  await page.getByRole('button', { name: 'Resume' }).click()
  await page.getByRole('heading', { name: 'Waiting' }).waitFor()
  assert.deepEqual(page.complaints, [])
})

test('nothing runs before consent', async () => {
  const page = await signedIn(volunteer)
  await page.getByText('no project is trusted').waitFor()
  await go(page, 'Projects')
  await page.getByLabel('Project (NAME@NODE)').fill('no project')
  await page.getByRole('button', { name: 'Trust', exact: true }).click()
  await page.getByRole('alert').waitFor()
  await page.getByLabel('Project (NAME@NODE)').fill(project)
  await page.getByRole('button', { name: 'Trust', exact: true }).click()
  await page.getByRole('region', { name: 'tiles' }).getByText('Trusted', { exact: true }).waitFor()
  const region = page.getByRole('region', { name: 'tiles' })
  await region.getByLabel('Share').fill('3')
  await region.getByLabel('Share').press('Enter')
  await region.getByText(/What would run here/).click()
  await region.getByText('Each unit runs in a sandbox').waitFor()
  await shot(page, 'consent')
  assert.ok((await volunteer.talka('project', 'ls')).some((p) => p.project === project && p.trusted && p.share === 3))
  assert.deepEqual(page.complaints, [])
})

test('a rule is changed, and put back', async () => {
  const page = await signedIn(volunteer)
  await go(page, 'Rules')
  await page.getByRole('button', { name: 'Change cpu_percent' }).click()
  await page.getByLabel('cpu_percent', { exact: true }).fill('500')
  await page.keyboard.press('Enter')
  await page.getByRole('alert').filter({ hasText: 'from 1 to 100' }).waitFor()
  await shot(page, 'rule-refused')
  await page.getByLabel('cpu_percent', { exact: true }).fill('50')
  await page.keyboard.press('Enter')
  await page.getByText('It counts now').waitFor()
  assert.equal((await volunteer.talka('config', 'get', 'cpu_percent')).value, '50')
  // The keyboard goes on where it was: after a change, after none, after a reset.
  const at = () => page.evaluate(() => document.activeElement.ariaLabel)
  assert.match(await at(), /^Change cpu_percent: 50/)
  await page.keyboard.press('Enter')
  await page.getByLabel('cpu_percent', { exact: true }).waitFor()
  await page.keyboard.press('Escape')
  await page.getByRole('button', { name: 'Change cpu_percent' }).waitFor()
  assert.match(await at(), /^Change cpu_percent: 50/)
  await page.keyboard.press('Tab')
  assert.equal(await at(), 'Reset: cpu_percent')
  await page.keyboard.press('Enter')
  await page.getByRole('button', { name: 'Reset: cpu_percent' }).waitFor({ state: 'detached' })
  assert.match(await at(), /^Change cpu_percent: 100/)

  // Limits stand beside what is taken, and the column that counts is marked.
  const row = (name) => page.getByRole('row').filter({ has: page.getByRole('rowheader', { name }) })
  for (const name of [/^Processors/, /^Percent/, /^Memory/, /^Upload/, /^Download/]) await row(name).getByText(/^measured: /).waitFor()
  assert.equal(await page.locator('th[aria-current="true"]').innerText(), 'While you are away')
  const upload = row(/^Upload/)
  assert.match(await upload.innerText(), /no limit[^]*no limit/)
  await page.getByRole('button', { name: 'Change upload' }).click()
  await page.getByLabel('upload', { exact: true }).fill('fast')
  await page.keyboard.press('Enter')
  await page.getByRole('alert').filter({ hasText: 'bytes a second' }).waitFor()
  await page.getByLabel('upload', { exact: true }).fill('none')
  await page.keyboard.press('Enter')
  await upload.getByRole('button', { name: 'Change upload: nothing' }).waitFor()
  assert.equal((await volunteer.talka('why')).up, -1)
  await page.keyboard.press('Enter')
  await page.getByLabel('upload', { exact: true }).fill('300KiB/s')
  await page.keyboard.press('Enter')
  await page.getByText('It counts now').waitFor()
  assert.equal((await volunteer.talka('why')).up, 300 * 1024, 'the limit does not count in the running node')
  await shot(page, 'rules-traffic')
  await page.getByRole('button', { name: 'Reset: upload' }).click()
  await page.getByRole('button', { name: 'Reset: upload' }).waitFor({ state: 'detached' })
  assert.equal((await volunteer.talka('why')).up, 0)
  assert.deepEqual(page.complaints, [])
})

test('the week is set by pointer, by finger and by keyboard, and keeps its minutes', async () => {
  const page = await signedIn(volunteer, { hasTouch: true })
  const hour = (name) => page.getByRole('gridcell', { name: new RegExp(`^${name}, `) })
  const is = (name, what) => page.getByRole('gridcell', { name: `${name}, ${what}`, exact: true }).waitFor()
  const text = page.getByLabel('rules.hours', { exact: true })
  const kept = async () => JSON.parse((await volunteer.talka('config', 'get', 'rules.hours')).value)
  const middle = async (cell) => {
    const b = await cell.boundingBox()
    return { x: b.x + b.width / 2, y: b.y + b.height / 2 }
  }
  await go(page, 'Rules')
  await page.getByRole('button', { name: 'Change rules.hours: at any time' }).click()
  await is('Monday 00:00 to 01:00', 'may run')
  await page.getByText('in 168 of 168 hours').waitFor()
  await page.getByRole('button', { name: 'No hour' }).click()
  await page.getByRole('status').getByText('No hour is chosen').waitFor()
  assert.ok(await page.getByRole('button', { name: 'Save', exact: true }).isDisabled(), 'no hour at all can be saved, as all of them')

  const [from, to] = [await middle(hour('Monday 09:00 to 10:00')), await middle(hour('Friday 16:00 to 17:00'))]
  await page.mouse.move(from.x, from.y)
  await page.mouse.down()
  await page.mouse.move((await middle(hour('Sunday 20:00 to 21:00'))).x, to.y + 99, { steps: 4 }) // too far, and back
  await page.mouse.move(to.x, to.y, { steps: 4 })
  await page.mouse.up()
  assert.equal(await text.inputValue(), 'mon-fri 09:00-17:00')
  await hour('Monday 12:00 to 13:00').click()
  await is('Monday 12:00 to 13:00', 'pause')
  await page.getByRole('button', { name: 'Sunday: all' }).click()
  await page.getByRole('button', { name: 'Sunday: none' }).waitFor()
  assert.deepEqual(await axe(page), [])
  await page.getByRole('button', { name: 'Save', exact: true }).click()
  await page.getByText('It counts now').waitFor()
  assert.deepEqual(await kept(), ['mon 09:00-12:00', 'mon 13:00-17:00', 'tue-fri 09:00-17:00', 'sun 00:00-24:00'])

  // By the keyboard alone, beside minutes that an hour does not show.
  await volunteer.talka('config', 'set', 'rules.hours', 'mon 00:00-00:01,sat 22:30-02:15')
  await page.reload()
  await page.getByRole('button', { name: 'Change rules.hours: mon 00:00-00:01, sat 22:30-02:15' }).press('Enter')
  const at = () => page.evaluate(() => document.activeElement.ariaLabel)
  assert.equal(await at(), 'Monday 00:00 to 01:00, partly: 00:00-00:01')
  await is('Saturday 22:00 to 23:00', 'partly: 22:30-23:00')
  await is('Sunday 02:00 to 03:00', 'partly: 02:00-02:15')
  for (const key of ['End', 'ArrowDown', 'ArrowRight']) await page.keyboard.press(key)
  assert.equal(await at(), 'Wednesday 00:00 to 01:00, pause')
  await page.keyboard.press('Space')
  assert.equal(await at(), 'Wednesday 00:00 to 01:00, may run')
  for (const key of ['Shift+ArrowRight', 'Shift+ArrowRight', 'Shift+ArrowDown', 'ArrowUp', 'ArrowLeft', 'ArrowLeft', 'Space']) await page.keyboard.press(key)
  assert.equal(await at(), 'Wednesday 00:00 to 01:00, pause')
  assert.equal(await text.inputValue(), 'mon 00:00-00:01,wed 01:00-03:00,thu 02:00-03:00,sat 22:30-02:15')
  await page.keyboard.press('Shift+Tab') // the one stop among the hours is left
  assert.match(await at(), /^Wednesday: all$/)
  await text.fill('soon')
  await page.getByText('The text is no schedule').waitFor()
  await text.press('Enter')
  await page.getByRole('alert').filter({ hasText: 'want days and hours' }).waitFor()
  await text.fill('mon 00:00-00:01,wed 01:00-03:00,thu 02:00-03:00,sat 22:30-02:15')
  await text.press('Enter')
  await page.getByText('It counts now').waitFor()
  assert.match(await at(), /^Change rules.hours: mon/)
  assert.deepEqual(await kept(), ['mon 00:00-00:01', 'wed 01:00-03:00', 'thu 02:00-03:00', 'sat 22:30-02:15'])

  // On a telephone: fingers along the hours choose them, and scroll otherwise.
  await page.keyboard.press('Enter')
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme })
    await page.setViewportSize({ width: 1280, height: 860 })
    await shot(page, `rules-week-${colorScheme}`)
    await page.setViewportSize({ width: 360, height: 740 })
    assert.deepEqual(await axe(page), [])
    assert.ok((await hour('Friday 20:00 to 21:00').boundingBox()).width >= 24)
    assert.ok((await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)) <= 0)
    await shot(page, `rules-week-phone-${colorScheme}`)
  }
  await hour('Monday 00:00 to 01:00').tap()
  await is('Monday 00:00 to 01:00', 'may run')
  const cdp = await page.context().newCDPSession(page)
  const finger = async (...path) => {
    for (const [i, p] of path.entries()) await cdp.send('Input.dispatchTouchEvent', { type: i ? 'touchMove' : 'touchStart', touchPoints: [p] })
    await cdp.send('Input.dispatchTouchEvent', { type: 'touchEnd', touchPoints: [] })
  }
  await hour('Tuesday 11:00 to 12:00').scrollIntoViewIfNeeded()
  const [two, five] = [await middle(hour('Tuesday 02:00 to 03:00')), await middle(hour('Tuesday 05:00 to 06:00'))]
  await finger(two, { x: two.x + 20, y: two.y }, { x: five.x - 10, y: five.y }, five)
  await is('Tuesday 05:00 to 06:00', 'may run')
  const chosen = 'mon 00:00-01:00,tue 02:00-06:00,wed 01:00-03:00,thu 02:00-03:00,sat 22:30-02:15'
  assert.equal(await text.inputValue(), chosen)
  await finger(two, { x: two.x, y: two.y - 20 }, { x: two.x, y: two.y - 60 }, { x: two.x, y: two.y - 90 })
  await page.waitForFunction(() => scrollY > 0)
  assert.equal(await text.inputValue(), chosen)
  await page.keyboard.press('Escape')
  await page.getByRole('button', { name: 'Reset: rules.hours' }).click()
  await page.getByRole('button', { name: 'Change rules.hours: at any time' }).waitFor()
  assert.deepEqual(page.complaints, [])
})

test('what is wrong is found, and the log is read', async () => {
  const page = await signedIn(second)
  await go(page, 'Diagnostics')
  const engine = page.getByRole('listitem').filter({ hasText: 'engine wasmtime' })
  await engine.getByText('executed a unit in').waitFor()
  await engine.getByText('fine', { exact: true }).waitFor()
  await page.getByRole('listitem').filter({ hasText: 'settings' }).getByText(grid.network).waitFor() // it knows the node's flags
  const log = page.getByRole('log')
  await page.getByText('Nothing has been logged yet.').or(log).waitFor()
  await page.getByRole('button', { name: 'Look again' }).click()
  await engine.waitFor()
  assert.deepEqual(await axe(page), [])
  await shot(page, 'diagnostics-second')
  assert.deepEqual(page.complaints, [])
})

test('machines are paired from the page, seen and controlled from it, and removed', async () => {
  // One by the command: its name is hostile, and it lets the others only look.
  const hostile = `<img src=x onerror=document.title='owned'>`
  const looked = await publisher.offer('--name', 'publisher')
  await volunteer.talka('pair', looked.code, '--yes', '--role', 'read', '--name', hostile)
  await looked.paired

  const [page, there] = [await signedIn(publisher), await signedIn(second)]
  await go(page, 'Machines')
  await page.getByRole('button', { name: 'Make the code' }).click()
  await page.getByRole('img', { name: 'The code as a QR code' }).waitFor()
  const code = await page.getByLabel('Pairing code').innerText()
  assert.match(code, /^pair1[a-z2-7]{120,}$/)
  assert.deepEqual(await axe(page), [])
  await shot(page, 'machines-code')
  await go(there, 'Machines')
  const given = there.getByLabel(/^Code from the other machine/)
  await given.fill(code.slice(0, -1))
  await there.getByRole('button', { name: 'See what it says' }).click()
  await there.getByRole('alert').filter({ hasText: 'copy it again' }).waitFor()
  await given.fill(code)
  await there.getByRole('button', { name: 'See what it says' }).click()
  await there.getByText('This machine may see and control it.').waitFor()
  await there.getByLabel('What the other machine shall call this one').last().fill('the second one')
  assert.deepEqual(await axe(there), [])
  await shot(there, 'machines-agree')
  await there.getByRole('button', { name: 'Pair them' }).click()
  for (const p of [page, there]) await p.getByRole('status').getByText(/^Paired with/).waitFor()
  await page.getByLabel('Pairing code').waitFor({ state: 'detached' }) // it is used

  const card = (id) => page.getByRole('listitem').filter({ has: page.locator(`[title="${id}"]`) })
  const other = card(second.banner.peer_id)
  const looker = card(volunteer.banner.peer_id)
  await looker.getByText(hostile).waitFor()
  await looker.getByText('Waiting', { exact: true }).waitFor()
  assert.equal(await looker.getByRole('button', { name: /^Pause/ }).count(), 0, 'a machine that may only be seen can be paused')
  await other.getByText('the second one', { exact: true }).waitFor() // as it asked to be called
  await other.getByRole('button', { name: /^Rename or remove/ }).click()
  assert.deepEqual(await axe(page), [])
  await shot(page, 'machines-rename')
  await page.getByLabel('What it is called here').fill('second')
  await page.keyboard.press('Enter')
  await other.getByRole('button', { name: 'Pause: second' }).click()
  await other.getByText('Paused', { exact: true }).waitFor()
  await other.getByText(/^Paused: by you/).waitFor()
  assert.equal((await second.talka('status')).state, 'paused')
  await go(there, 'Now')
  await there.getByRole('heading', { level: 1, name: 'Paused' }).waitFor()
  assert.deepEqual(await axe(page), [])
  await shot(page, 'machines-paused')
  await page.getByRole('button', { name: 'Pause all' }).click()
  await card(publisher.banner.peer_id).getByText('Paused', { exact: true }).waitFor()
  await page.getByRole('button', { name: 'Resume all' }).click()
  await other.getByText('Waiting', { exact: true }).waitFor()
  await card(publisher.banner.peer_id).getByText('Waiting', { exact: true }).waitFor()
  assert.equal((await second.talka('status')).state, 'idle')

  // Its rules, from here.
  await other.getByRole('link', { name: 'Rules: second' }).click()
  await page.getByRole('heading', { level: 1, name: 'Rules of second' }).waitFor()
  await page.getByRole('button', { name: 'Change cpu_percent' }).click()
  await page.getByLabel('cpu_percent', { exact: true }).fill('60')
  await page.keyboard.press('Enter')
  await page.getByText('It counts now').waitFor()
  assert.equal((await second.talka('config', 'get', 'cpu_percent')).value, '60')
  assert.deepEqual(await axe(page), [])
  await shot(page, 'machines-rules')
  await page.getByRole('button', { name: 'Reset: cpu_percent' }).click()
  await page.getByRole('button', { name: 'Reset: cpu_percent' }).waitFor({ state: 'detached' })

  // It goes away and comes back at another address.
  await page.getByRole('link', { name: '← Machines' }).click()
  await second.stop()
  await other.getByText('Away', { exact: true }).waitFor()
  await other.getByText('Last seen').waitFor()
  assert.deepEqual(await axe(page), [])
  await shot(page, 'machines-away')
  await second.start()
  await other.getByText('Waiting', { exact: true }).waitFor()

  // Who may only look may not introduce others.
  const knows = async (a, b) => (await a.talka('machines', 'ls')).machines.some((m) => m.peer_id === b.banner.peer_id)
  const introduce = page.getByRole('button', { name: 'Let them know each other' })
  await introduce.click()
  await page.getByRole('alert').filter({ hasText: 'lets you only look' }).waitFor()
  assert.ok(!(await knows(volunteer, second)))
  await looker.getByRole('button', { name: /^Rename or remove/ }).click()
  await page.getByRole('button', { name: 'Remove it' }).click()
  await page.getByRole('status').getByText('Cut off:').waitFor()
  await looker.waitFor({ state: 'detached' })
  assert.deepEqual((await publisher.talka('machines', 'ls')).machines.map((m) => m.name), ['second'])

  const third = await grid.node('third', '--steward=false')
  const offered = await publisher.offer('--name', 'publisher')
  await third.talka('pair', offered.code, '--yes', '--name', 'third')
  await offered.paired
  await card(third.banner.peer_id).getByText('Waiting', { exact: true }).waitFor()
  assert.ok(!(await knows(second, third)) && !(await knows(third, second)))
  await introduce.click()
  await page.getByRole('status').getByText('They know each other.').waitFor()
  assert.ok((await knows(second, third)) && (await knows(third, second)))
  await publisher.talka('machines', 'remove', 'third')
  await third.stop()
  assert.ok(!(await page.title()).includes('owned'))
  assert.deepEqual([...page.complaints, ...there.complaints], [])
})

test('a job appears, its grid fills, its pictures appear, its text is harmless', async () => {
  const page = await signedIn(publisher)
  await go(page, 'Jobs')
  await page.getByText('No job is known here yet.').waitFor()
  const job = await grid.submit(publisher, 'tiles', UNITS)
  await page.getByRole('link', { name: `mandelbrot-${UNITS}` }).click()
  const cells = page.getByRole('listbox').getByRole('option')
  await cells.nth(UNITS - 1).waitFor()
  assert.equal(await cells.count(), UNITS)
  await page.getByRole('listbox').getByRole('option', { name: /accepted/ }).nth(UNITS - 1).waitFor()
  await page.locator('.cell img').nth(UNITS - 1).waitFor()
  await shot(page, 'job-pictures')

  await cells.nth(0).focus()
  await page.keyboard.press('ArrowRight')
  await page.keyboard.press('Enter')
  const unit = page.getByRole('region', { name: 'Unit 1' })
  await unit.getByText('tile 1').waitFor()
  await unit.getByRole('img', { name: 'Picture tile.png of unit 1' }).waitFor()
  assert.deepEqual(await axe(page), [])
  assert.match(await unit.locator('pre').innerText(), /<img src=x onerror=.*\?\[2J\?neddih/)
  assert.equal(await unit.getByRole('img').count(), 1, 'markup that is called a picture is shown')
  await shot(page, 'job-unit')
  assert.ok(!(await page.title()).includes('owned'))
  assert.deepEqual(page.complaints, [])
  assert.equal((await publisher.talka('job', 'show', job)).units.accepted, UNITS)
})

test('every control is reached by the keyboard, and nothing moves for who wants no motion', async () => {
  const page = await signedIn(publisher, { reducedMotion: 'reduce' })
  await page.evaluate(() => {
    globalThis.reached = new WeakSet()
    document.addEventListener('focusin', (e) => reached.add(e.target))
    globalThis.controls = () =>
      [...document.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex]')].filter(
        (n) => n.checkVisibility() && !n.disabled && n.tabIndex >= 0 && (n.type !== 'radio' || n.checked), // a group of these is one
      )
  })
  for (const name of SCREENS) {
    await page.evaluate((n) => (location.hash = `#/${n}`), name)
    await page.getByText('Loading…').first().waitFor({ state: 'detached' })
    await page.evaluate(() => document.activeElement.blur())
    const left = () => page.evaluate(() => controls().filter((n) => !reached.has(n)).map((n) => n.outerHTML.slice(0, 200)))
    const rounds = () => page.evaluate(() => 2 * (controls().length + 5)) // a second one for what comes meanwhile
    let missing = await left()
    for (let i = 0; missing.length > 0 && i < (await rounds()); i++) {
      await page.keyboard.press('Tab')
      missing = await left()
    }
    assert.deepEqual(missing, [], name)
    const moving = await page.evaluate(() =>
      [...document.querySelectorAll('*')].filter((n) => {
        const s = getComputedStyle(n)
        return s.animationName !== 'none' || s.transitionDuration.split(', ').some((d) => d !== '0s')
      }).map((n) => n.outerHTML.slice(0, 200)),
    )
    assert.deepEqual(moving, [], name)
  }
  assert.deepEqual(page.complaints, [])
})

for (const colorScheme of ['light', 'dark']) {
  for (const [form, viewport] of [['wide', { width: 1280, height: 860 }], ['phone', { width: 360, height: 740 }]]) {
    test(`every screen, ${colorScheme}, ${form}`, async () => {
      const page = await signedIn(publisher, { colorScheme, viewport })
      const job = (await publisher.talka('job', 'ls'))[0].job
      for (const name of [...SCREENS, `jobs/${job}`]) {
        await page.evaluate((n) => (location.hash = `#/${n}`), name)
        await page.getByText('Loading…').first().waitFor({ state: 'detached' })
        await page.waitForTimeout(100) // for transitions, which axe would read half-way
        const label = name.includes('/') ? 'job' : name
        await shot(page, `${label}-${form}-${colorScheme}`)
        assert.deepEqual(await axe(page), [], label)
        const wider = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)
        assert.ok(wider <= 0, `${label} is ${wider} px wider than the screen`)
      }
      assert.deepEqual(page.complaints, [])
    })
  }
}

test('peers have shapes by what they do, and lines by the way to them', async () => {
  const page = await signedIn(volunteer)
  await go(page, 'Network')
  const row = page.getByRole('row').filter({ has: page.locator(`[title="${publisher.banner.peer_id}"]`) })
  await row.getByText('publisher, steward').waitFor()
  await row.getByText('this machine').waitFor()
  await page.locator('svg[role=img] path.loop').waitFor()
  await shot(page, 'network-roles')
  assert.deepEqual(await axe(page), [])
  const other = await signedIn(publisher)
  await go(other, 'Network')
  await other.getByRole('row').filter({ has: other.locator(`[title="${volunteer.banner.peer_id}"]`) }).getByText('volunteer').waitFor()
  assert.deepEqual([...page.complaints, ...other.complaints], [])
})

// One machine has but one way to its own nodes: what the node would say of others is
// given to the page here.
test('every way to a peer is told apart, in the graph and in words', async () => {
  const page = await signedIn(volunteer)
  const at = (host) => `/ip4/${host}/udp/8255/quic-v1`
  const through = (relay) => `${at(relay)}/p2p/${publisher.banner.peer_id}/p2p-circuit`
  const ways = [
    ['relayed', [through('203.0.113.5')], { relayed: true }],
    ['direct', [at('198.51.100.7'), through('127.0.0.1')], {}],
    ['local network', [at('192.168.1.7')], { lan: true }],
    ['local network', [at('100.64.3.2')], { lan: true }],
    ['this machine', [at('127.0.0.1')], { lan: true }],
  ]
  const peers = ways.map(([, addrs, of], i) => ({ peer_id: `12D3KooWpeer${i}`, addrs, relayed: false, lan: false, inbound: false, protected: false, score: 0, latency_ms: 10 * i, ...of }))
  await page.route('**/v1/peers', (r) => r.fulfill({ json: peers }))
  await go(page, 'Network')
  for (const [i, [way]] of ways.entries()) {
    const row = page.getByRole('row').filter({ has: page.locator(`[title="12D3KooWpeer${i}"]`) })
    await row.getByText(way, { exact: true }).waitFor()
  }
  const graph = page.getByRole('img', { name: /direct: 1, local network: 2, this machine: 1, relayed: 1$/ })
  await graph.waitFor()
  const looks = await graph.locator('line').evaluateAll((list) =>
    list.map((l) => {
      const s = getComputedStyle(l)
      return `${s.strokeWidth} ${s.strokeDasharray} ${s.strokeLinecap}`
    }),
  )
  assert.equal(looks.length, ways.length)
  assert.equal(new Set(looks).size, 4, looks.join('; ')) // without colour
  assert.equal(looks[2], looks[3])
  await shot(page, 'network-ways')
  assert.deepEqual(await axe(page), [])
  assert.deepEqual(page.complaints, [])
})

test('copies that differ are seen, and who was wrong', async () => {
  const liar = await grid.node('liar', '--steward=false')
  await liar.stop()
  Object.assign(liar, { verb: ['demo-liar', '--lie-file', path.join(liar.dir, 'lies')] })
  liar.flags.push('--trust', project)
  await Promise.all([liar.start(), second.talka('project', 'trust', project)])
  // Two volunteers are left, so that every unit needs the liar.
  await Promise.all([publisher.talka('pause'), volunteer.talka('project', 'revoke', project)])
  const page = await signedIn(publisher)
  const job = await grid.submit(publisher, 'tiles', 48, 0.0001)
  await page.evaluate((job) => (location.hash = `#/jobs/${job}`), job)
  const cells = page.getByRole('listbox').getByRole('option')
  const wrong = page.getByRole('listitem').filter({ hasText: 'wrong copies' })
  await page.getByRole('option', { name: /results differ/ }).or(wrong).first().waitFor()
  await shot(page, 'job-contested')
  assert.deepEqual(await axe(page), [])
  await publisher.talka('resume') // its copies decide
  await page.getByText('48 of 48 units accepted').waitFor()
  // Some unit was lied about; its panel says who differs.
  const details = await page.evaluate(
    async ({ job }) => {
      const get = async (p) => (await fetch(p, { headers: { 'Talka-Key': localStorage.getItem('talka-key') } })).json()
      const all = await Promise.all([...Array(48).keys()].map((u) => get(`v1/jobs/${job}/units/${u}/result`)))
      return all.find((d) => d.list.some((c) => c.open && !c.accords))?.unit
    },
    { job },
  )
  assert.ok(details !== undefined, 'no lie was found out')
  await cells.nth(details).click()
  await page.getByText('differs', { exact: true }).waitFor()
  await wrong.first().waitFor()
  await shot(page, 'job-disagreement')
  assert.deepEqual(await axe(page), [])
  assert.deepEqual(page.complaints, [])
  await liar.stop()
})

test('a record of what was given, for others to check', async () => {
  const page = await signedIn(second)
  await go(page, 'Impact')
  const saved = page.waitForEvent('download')
  await page.getByRole('button', { name: 'Save the record' }).click()
  const file = path.join(grid.dir, 'second.record')
  await (await saved).saveAs(file)
  const record = await publisher.talka('record', 'verify', file)
  assert.equal(record.peer_id, (await second.talka('status')).peer_id)
  assert.ok(record.copies > 0, JSON.stringify(record))
  await shot(page, 'impact-record')
  assert.deepEqual(await axe(page), [])
  assert.deepEqual(page.complaints, [])
})

test('a hidden page asks for nothing', async () => {
  const page = await tab(browser)
  const open = new Set()
  page.on('request', (r) => open.add(r))
  const closed = new EventEmitter()
  for (const end of ['requestfinished', 'requestfailed']) page.on(end, (r) => open.delete(r) && closed.emit('one'))
  await page.clock.install()
  await page.goto(await publisher.link())
  await page.locator('main time').first().waitFor() // an event was seen
  const hide = (hidden) =>
    page.evaluate((hidden) => {
      Object.defineProperty(document, 'hidden', { value: hidden, configurable: true })
      document.dispatchEvent(new Event('visibilitychange'))
    }, hidden)
  let asked = 0
  await hide(true)
  while (open.size > 0) await once(closed, 'one') // what was under way
  page.on('request', () => asked++)
  await page.clock.runFor(60_000)
  assert.equal(asked, 0)
  const resumed = page.waitForRequest((r) => /events\?after=[1-9]/.test(r.url()))
  await hide(false)
  await resumed
  // The page's time is the test's, that of its answers is not.
  while (asked < 3) await page.clock.runFor(1000)
})

test('in German', async () => {
  const page = await signedIn(publisher, { locale: 'de-AT' })
  await go(page, 'Aufträge')
  await page.getByText('16 von 16 Einheiten angenommen').waitFor()
  await shot(page, 'jobs-german')
  await go(page, 'Rechner')
  await page.getByText('Ihre anderen Rechner').waitFor()
  await page.getByText('dieser Rechner', { exact: true }).waitFor()
  assert.deepEqual(await axe(page), [])
  await shot(page, 'machines-german')
  await go(page, 'Projekte')
  await page.getByLabel('Projekt (NAME@KNOTEN)').fill('nobody')
  await page.getByLabel('Projekt (NAME@KNOTEN)').press('Enter')
  await page.getByRole('alert').filter({ hasText: 'Nicht so, wie es sein muss: ' }).waitFor()
  await go(page, 'Diagnose')
  await page.getByText('Dieser Knoten ist nur für diesen Rechner da, wie seine Einstellungen es sagen.').waitFor()
  assert.deepEqual(await page.locator('.checks [lang]:not([lang="de"])').allTextContents(), [])
  assert.deepEqual(await axe(page), [])
  await shot(page, 'diagnostics-german')
  // What the node says, too, and in English where the page does not know its words.
  await publisher.talka('pause')
  await go(page, 'Jetzt')
  await page.getByText(/^Durch Sie\. Geht weiter, wenn Sie es sagen/).waitFor()
  await page.getByText('Pausiert: durch Sie.').first().waitFor()
  assert.deepEqual(await axe(page), [])
  await shot(page, 'paused-german')
  await publisher.talka('pause', '--for', '30h')
  await page.getByText(/^Durch Sie\. Geht am (Mon|Diens|Mittwoch|Donners|Frei|Sams|Sonn)(tag)? um \d\d:\d\d weiter\.$/).waitFor()
  await publisher.talka('resume')
  await page.route('**/v1/status', async (r) => r.fulfill({ json: { ...(await (await r.fetch()).json()), reason: 'Rests.', said: [{ code: 'newer', text: 'Rests.' }] } }))
  await page.reload()
  assert.equal(await page.getByText('Rests.', { exact: true }).getAttribute('lang'), 'en')
  await go(page, 'Aufträge')
  assert.equal(await page.locator('html').getAttribute('lang'), 'de')
  await page.getByLabel('Sprache').selectOption('English')
  await page.getByText('16 of 16 units accepted').waitFor()
  assert.deepEqual(await axe(page), [])
})

test('first paint within 300 ms, an event on the screen within 200 ms', async (t) => {
  const page = await signedIn(publisher)
  const paints = []
  for (let i = 0; i < 20 && (i < 5 || Math.min(...paints) >= 300); i++) {
    await page.reload()
    const painted = () =>
      new Promise((done) => {
        const seen = (list) => list.getEntriesByName('first-contentful-paint').forEach((e) => done(e.startTime))
        new PerformanceObserver(seen).observe({ type: 'paint', buffered: true })
      })
    paints.push(await page.evaluate(painted))
  }
  await page.getByRole('heading', { level: 1 }).waitFor()
  await page.evaluate(() => {
    globalThis.late = []
    const seen = new Set([...document.querySelectorAll('time')].map((n) => n.dateTime))
    new MutationObserver(() => {
      for (const { dateTime } of document.querySelectorAll('time')) {
        if (!seen.has(dateTime)) late.push(Date.now() - Date.parse(dateTime))
        seen.add(dateTime)
      }
    }).observe(document.querySelector('main'), { subtree: true, childList: true, characterData: true, attributes: true })
  })
  // A machine that does something else meanwhile is asked again.
  const medians = []
  while (medians.length < 3 && !(Math.min(...medians) < 200)) {
    await page.evaluate(() => (late.length = 0))
    await grid.submit(publisher, 'tiles', 8)
    await page.waitForFunction(() => late.length >= 5)
    medians.push(await page.evaluate(() => late.sort((a, b) => a - b)[late.length >> 1]))
  }
  t.diagnostic(`first paint ${paints.map(Math.round)} ms; event to screen, median ${medians} ms`)
  assert.ok(Math.min(...paints) < 300, `paints ${paints}`)
  assert.ok(Math.min(...medians) < 200, `late ${medians}`)
})

test('a project leads to its latest results, on a node that knows nothing else', async () => {
  const late = await grid.node('late', '--steward=false')
  const page = await signedIn(late)
  await go(page, 'Projects')
  await page.getByLabel('Project (NAME@NODE)').fill(project)
  await page.getByLabel('Project (NAME@NODE)').press('Enter')
  const region = page.getByRole('region', { name: 'tiles' })
  await region.getByText(/What would run here/).click()
  await region.getByText('Latest sealed results').waitFor()
  assert.deepEqual(await axe(page), [])
  await shot(page, 'latest-results')
  assert.ok((await late.talka('project', 'show', project)).results.accepted > 0)
  assert.deepEqual(page.complaints, [])
  await late.stop()
})

test('the daemon idles while the page is open', async (t) => {
  const page = await signedIn(second)
  await page.getByRole('heading', { level: 1 }).waitFor()
  const used = async () => {
    const f = (await readFile(`/proc/${second.process.pid}/stat`, 'utf8')).split(') ').at(-1).split(' ')
    return (Number(f[11]) + Number(f[12])) / 100 // seconds
  }
  // What is left of earlier work is not idling: it is asked again.
  const shares = []
  while (shares.length < 10 && !(Math.min(...shares) < 0.01)) {
    const [began, before] = [Date.now(), await used()]
    await page.waitForTimeout(10_000)
    shares.push((await used() - before) / ((Date.now() - began) / 1000))
  }
  t.diagnostic(`with the page open the daemon takes ${shares.map((s) => (100 * s).toFixed(2))} % of a core`)
  assert.ok(Math.min(...shares) < 0.01, `the daemon takes ${shares}`)
})

test('the page comes back with the node, still signed in', async () => {
  const page = await signedIn(volunteer)
  await volunteer.stop()
  await page.getByText('The node does not answer.').waitFor()
  await shot(page, 'lost')
  await volunteer.start()
  await page.getByText('The node does not answer.').waitFor({ state: 'detached' })
  await page.getByRole('heading', { level: 1, name: 'Waiting' }).waitFor()
  assert.deepEqual(page.complaints, [])
})
