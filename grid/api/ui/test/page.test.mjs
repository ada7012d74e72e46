import assert from 'node:assert/strict'
import { EventEmitter, once } from 'node:events'
import { after, before, test } from 'node:test'
import path from 'node:path'
import { axe, browse, Grid, shot, tab } from './grid.mjs'

const SCREENS = ['now', 'impact', 'network', 'projects', 'jobs', 'data', 'rules', 'diagnostics']
const UNITS = 16

let grid, browser, publisher, volunteer, second, project

before(async () => {
  grid = await Grid.make()
  ;[browser, publisher] = await Promise.all([browse(), grid.node('publisher'), grid.picture()])
  volunteer = await grid.node('volunteer', '--steward=false')
  second = await grid.node('second', '--steward=false')
  project = (await publisher.talka('project', 'new', 'tiles')).project
})

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
  await page.getByText('Joined').waitFor()
  const began = Date.now()
  await page.getByRole('button', { name: 'Run the sample' }).click()
  await page.getByRole('status').getByText('units, all right').waitFor()
  t.diagnostic(`a sample after ${Date.now() - began} ms`)
  assert.equal((await fresh.talka('config', 'get', 'preset')).value, '"balanced"')
  const why = await fresh.talka('why')
  assert.ok(why.processors >= 1 && why.measured.cpu > 1, JSON.stringify(why))
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
  await page.getByRole('button', { name: 'Reset: cpu_percent' }).click()
  await page.getByRole('button', { name: 'Reset: cpu_percent' }).waitFor({ state: 'detached' })
  assert.deepEqual(page.complaints, [])
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
  await page.getByRole('status').filter({ hasText: /^Live$/ }).waitFor()
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
  assert.equal(await page.locator('html').getAttribute('lang'), 'de')
  await page.getByLabel('Sprache').selectOption('English')
  await page.getByText('16 of 16 units accepted').waitFor()
  assert.deepEqual(await axe(page), [])
})

test('first paint within 300 ms, an event on the screen within 200 ms', async (t) => {
  const page = await signedIn(publisher)
  const paints = []
  for (let i = 0; i < 5; i++) {
    await page.reload()
    await page.getByRole('heading', { level: 1 }).waitFor()
    paints.push(await page.evaluate(() => performance.getEntriesByName('first-contentful-paint')[0].startTime))
  }
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
    await page.waitForFunction(() => late.length >= 12)
    medians.push(await page.evaluate(() => late.sort((a, b) => a - b)[late.length >> 1]))
  }
  t.diagnostic(`first paint ${paints.map(Math.round)} ms; event to screen, median ${medians} ms`)
  assert.ok(Math.min(...paints) < 300, `paints ${paints}`)
  assert.ok(Math.min(...medians) < 200, `late ${medians}`)
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
