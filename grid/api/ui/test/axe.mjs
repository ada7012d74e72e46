// axe as one expression for the browser's debugger, which the page's policy does
// not bind: nothing of the policy is relaxed for the test.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'

const source = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']

export const AXE = `(async () => { if (!globalThis.axe) { ${source} }
  const r = await axe.run(document, { runOnly: ${JSON.stringify(tags)} })
  return r.violations.map((v) => ({ id: v.id, help: v.help, nodes: v.nodes.map((n) => ({ target: String(n.target), any: n.any })) })) })()`
