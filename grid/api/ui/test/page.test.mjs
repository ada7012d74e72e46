import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { axe, browse, Grid, shot, tab } from './grid.mjs'

const SCREENS = ['now', 'impact', 'network', 'projects', 'jobs', 'data', 'rules', 'diagnostics']
const UNITS = 16

let grid, browser, publisher, volunteer, project

before(async () => {
  grid = await Grid.make()
  ;[browser, publisher] = await Promise.all([browse(), grid.node('publisher'), grid.picture()])
  volunteer = await grid.node('volunteer')
  await grid.node('second')
  project = (await publisher.talka('project', 'new', 'tiles')).project
  await volunteer.talka('project', 'trust', project)
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

test('pause with its reason, and resume', async () => {
  const page = await signedIn(volunteer)
  await page.getByLabel('Pause for').selectOption('2 hours')
  await page.getByRole('button', { name: 'Pause' }).click()
  await page.getByRole('heading', { name: 'Paused' }).waitFor()
  await page.getByText(/Paused by you until \d\d:\d\d/).waitFor()
  assert.equal((await volunteer.talka('status')).state, 'paused')
  await shot(page, 'paused')
  await page.getByRole('button', { name: 'Resume' }).click()
  await page.getByRole('heading', { name: 'Waiting' }).waitFor()
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
  await page.getByRole('listbox').getByRole('option', { name: /accepted/ }).nth(UNITS - 1).waitFor({ timeout: 120_000 })
  await page.locator('.cell img').nth(UNITS - 1).waitFor()
  await shot(page, 'job-pictures')

  await cells.nth(0).focus()
  await page.keyboard.press('ArrowRight')
  await page.keyboard.press('Enter')
  const unit = page.getByRole('region', { name: 'Unit 1' })
  await unit.getByText('tile 1').waitFor()
  await unit.getByRole('img', { name: 'Picture tile.png of unit 1' }).waitFor()
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
