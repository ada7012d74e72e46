// The way to the node. Every request carries the cookie, which browsers add, and
// the key, which only this origin has: another server on this machine sees the
// first and never the second.

const KEY = 'talka-key'
const PROBLEM = 'urn:talka:problem:'

/** What the node answered instead; kind is one of a closed set. */
export class Problem extends Error {
  constructor(kind, detail) {
    super(detail)
    this.kind = kind
  }
}

export const signedIn = () => localStorage.getItem(KEY) !== null

async function send(method, path, { body, signal, headers } = {}) {
  let r
  try {
    r = await fetch(path, {
      method,
      signal,
      cache: 'no-store',
      headers: {
        ...headers,
        'Talka-Key': localStorage.getItem(KEY) ?? '',
        ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
      },
      body: body === undefined ? undefined : JSON.stringify(body),
    })
  } catch (e) {
    if (e.name === 'AbortError') throw e
    throw new Problem('not-running', e.message)
  }
  if (r.ok) return r
  const p = await r.json().catch(() => ({}))
  const detail = [p.detail ?? r.statusText, ...(p.errors ?? []).map((e) => e.message)].join('; ')
  throw new Problem(r.status === 401 ? 'signed-out' : String(p.type ?? '').replace(PROBLEM, ''), detail)
}

export const get = async (path, signal) => (await send('GET', path, { signal })).json()
export const post = async (path, body) => (await send('POST', path, { body })).json()
export const blob = async (path, signal) => (await send('GET', path, { signal })).blob()

/** Calls line for each line of a stream until its end. */
export async function lines(method, path, line, body, signal) {
  const r = await send(method, path, { body, signal })
  const reader = r.body.pipeThrough(new TextDecoderStream()).getReader()
  let rest = ''
  for (;;) {
    const { value, done } = await reader.read()
    if (done) throw new Problem('not-running', 'The answer was cut off.')
    const parts = (rest + value).split('\n')
    rest = parts.pop()
    for (const l of parts.map((p) => JSON.parse(p))) {
      if (l.end) return
      if (l.problem) throw new Problem('', l.problem.detail)
      line(l)
    }
  }
}

/** Exchanges the code of a link for a session. */
export async function enter(code) {
  const { key } = await post('v1/session', { code })
  localStorage.setItem(KEY, key)
}

export async function leave() {
  try {
    await post('v1/session/end')
  } finally {
    forget()
  }
}

export const forget = () => localStorage.removeItem(KEY)

/**
 * Reads server-sent events above `after` until the signal. EventSource would do,
 * but cannot carry the key.
 */
export async function events(after, signal, opened, event) {
  const r = await send('GET', `v1/events?after=${after}`, { signal })
  opened()
  const reader = r.body.pipeThrough(new TextDecoderStream()).getReader()
  let rest = ''
  for (;;) {
    const { value, done } = await reader.read()
    if (done) return
    const parts = (rest + value).split('\n\n')
    rest = parts.pop()
    for (const part of parts) {
      const data = part.split('\n').find((l) => l.startsWith('data: '))
      if (data) event(JSON.parse(data.slice(6)))
    }
  }
}
