import { english, known, lang, t } from './text.svelte.js'

// What the node says comes as phrases: codes with what stands in their places, beside
// its English.

/** The phrases in the language of the page, or null if it does not know one of them. */
export function say(phrases) {
  const all = phrases?.flatMap((p) => [p, ...(p.list ?? [])]) ?? []
  if (!all.length || !all.every((p) => known(`say_${p.code}`))) return null
  return phrases.map((p) => one(p, inRow((p.list ?? []).map((q) => one(q))))).join(' ')
}

function one(p, list) {
  const values = Object.entries(p.with ?? {}).map(([place, value]) => [place, placed(place, value)])
  return t(`say_${p.code}`, { ...Object.fromEntries(values), list })
}

const inRow = (list) => list.slice(0, -1).join(', ') + (list.length > 1 ? t('say_and') : '') + (list.at(-1) ?? '')

// Days and months have names in the language of the page.
const TIMES = {
  weekday: [...Array(7).keys()].map((d) => Date.UTC(2024, 0, 1 + d)),
  month: [...Array(12).keys()].map((m) => Date.UTC(2024, m)),
}
function placed(place, value) {
  if (place === 'reason') return reworded(value) ?? value
  const name = (time, l) => new Date(time).toLocaleDateString(l, { [place]: 'long', timeZone: 'UTC' })
  const time = TIMES[place]?.find((time) => name(time, 'en') === value)
  return time === undefined ? value : name(time, lang.now)
}

// Why a steward gave nothing comes over the network, and only as English.
const REASONS = english('say_no_').map(([key, text]) => {
  const parts = text.split(/\{\w+\}/).map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
  return { key, places: [...text.matchAll(/\{(\w+)\}/g)].map((m) => m[1]), form: new RegExp(`^${parts.join('(.{1,80})')}$`) }
})

/** What a steward says, in the language of the page, or null if that does not know its words. */
export function reworded(text) {
  for (const { key, places, form } of REASONS) {
    const found = form.exec(text)
    if (found) return t(key, Object.fromEntries(places.map((place, i) => [place, found[i + 1]])))
  }
  return null
}
