import * as api from './api.js'

// What happens on the node, and what the screens keep in view of it. A hidden
// page asks for nothing; when it is looked at again it goes on after the last
// event that it saw.

const REMEMBER = 500 // events
const THROTTLE = 120 // ms between two looks that events cause
const LOOK = 5000 // ms between two looks without events

export const live = $state({
  way: 'connecting', // connecting, live, lost or out (signed out)
  error: '', // why it is out
  status: null,
  fresh: false, // nobody has said yet how much the node may have
  events: [], // oldest first
  names: {}, // of jobs, as far as events told them
})

let seq = 0
let stream = null
let entered = false // signed in, or known not to be
const looks = new Set()

/** Keeps the node's own status in view from now on, and all that watch adds. */
export async function start(code) {
  document.addEventListener('visibilitychange', attend)
  if (code) {
    try {
      await api.enter(code)
    } catch (e) {
      if (!api.signedIn() || e.kind === 'unauthorised') return out(e)
    }
  }
  if (!api.signedIn()) return out('')
  entered = true
  live.way = 'connecting'
  const unset = ({ key, source }) => key === 'preset' && source === 'default'
  api.get('v1/settings').then((list) => (live.fresh = list.some(unset)), () => {})
  // Jobs of this node's own, and those that it knew before, have names, too.
  const unnamed = (e) => e.job && !live.names[e.job]
  watch(async (signal) => { for (const j of await api.get('v1/jobs', signal)) live.names[j.job] = j.name }, { concerns: unnamed, every: 600000 })
  watch(async (signal) => (live.status = await api.get('v1/status', signal)))
  attend()
}

export function out(why) {
  stream?.abort()
  stream = null
  live.way = 'out'
  live.error = why
}

export async function leave() {
  await api.leave().catch(() => {})
  out('')
}

/**
 * Calls load now, after events that concern it, and now and then while the page
 * is seen. Returns what ends it. For $effect.
 */
export function watch(load, { concerns = () => true, every = LOOK, failed = () => {} } = {}) {
  const ended = new AbortController()
  let timer
  let busy = false
  let again = false
  const look = async () => {
    clearTimeout(timer)
    if (ended.signal.aborted || document.hidden || live.way === 'out' || !entered) return
    if (busy) return void (again = true)
    busy = true
    again = false
    try {
      await load(ended.signal)
    } catch (e) {
      if (e.kind === 'signed-out') {
        api.forget()
        out('')
      } else if (e.name !== 'AbortError') failed(e)
    }
    busy = false
    timer = setTimeout(look, again ? THROTTLE : every)
  }
  const entry = {
    look,
    event(e) {
      if (!concerns(e)) return
      if (busy) return void (again = true)
      if (entry.due) return
      entry.due = setTimeout(() => {
        entry.due = null
        look()
      }, THROTTLE)
    },
  }
  looks.add(entry)
  look()
  return () => {
    looks.delete(entry)
    clearTimeout(timer)
    clearTimeout(entry.due)
    ended.abort()
  }
}

/** Looks at everything again, after something was changed here. */
export const refresh = () => looks.forEach((l) => l.look())

function attend() {
  if (document.hidden) {
    stream?.abort()
    stream = null
  } else if (!stream && live.way !== 'out') {
    stream = new AbortController()
    follow(stream.signal)
    refresh()
  }
}

async function follow(signal) {
  let pending = []
  const take = () => {
    const fresh = pending
    pending = []
    for (const e of fresh) if (e.kind === 'job') live.names[e.job] = e.text
    live.events = [...live.events, ...fresh].slice(-REMEMBER)
    for (const l of looks) fresh.forEach((e) => l.event(e))
  }
  for (let wait = 500; !signal.aborted; wait = Math.min(wait * 2, 5000)) {
    try {
      await api.events(
        seq,
        signal,
        () => {
          const back = live.way === 'lost'
          live.way = 'live'
          wait = 500
          if (back) refresh()
        },
        (e) => {
          seq = e.seq
          if (pending.push(e) === 1) setTimeout(take, 20)
        },
      )
    } catch (e) {
      if (signal.aborted) return
      if (e.kind === 'signed-out') {
        api.forget()
        return out('')
      }
    }
    if (signal.aborted) return
    live.way = 'lost'
    await new Promise((done) => setTimeout(done, wait))
  }
}
