import { lang } from './text.svelte.js'

/**
 * Text of peers as screens show it: without control and formatting characters
 * (reversed writing, zero widths), and no longer than it may be.
 */
export function clean(s, max = 200) {
  const t = String(s ?? '').replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}]/gu, '?')
  return t.length > max ? t.slice(0, max) + '…' : t
}

/** Like clean, for text of many lines. */
export const lines = (s, max) => String(s).slice(0, max).replace(/[^\S\n\t ]|[\p{Cc}\p{Cf}]/gu, (c) => (c === '\n' || c === '\t' ? c : '?'))

/** The end of an id; all ids of a kind begin alike. */
export const short = (id) => (id ? '…' + clean(id).slice(-6) : '–')

export const num = (n, digits = 0) => new Intl.NumberFormat(lang.now, { maximumFractionDigits: digits }).format(n)
export const percent = (part) => new Intl.NumberFormat(lang.now, { style: 'percent', maximumFractionDigits: 0 }).format(part)

export function size(n) {
  let u = 0
  while (n >= 1024 && u < 4) {
    n /= 1024
    u++
  }
  return `${num(n, u ? 1 : 0)} ${['B', 'KiB', 'MiB', 'GiB', 'TiB'][u]}`
}

export const clock = (time) => new Date(time).toLocaleTimeString(lang.now, { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' })

/** The name of a day of the week, from Monday on. */
export const weekday = (day, length) => new Date(Date.UTC(2024, 0, 1 + day)).toLocaleDateString(lang.now, { weekday: length, timeZone: 'UTC' })

/** A project's name and publisher. */
export function project(id) {
  const at = id.lastIndexOf('@')
  return { name: clean(id.slice(0, at)), publisher: id.slice(at + 1) }
}

/** A list without those whose key was there before: another machine may say anything. */
export const unique = (list, key) => [...new Map(list.map((o) => [o[key], o])).values()]

/** Bytes of a base64 text. */
export const bytes = (b64) => Uint8Array.from(atob(b64), (c) => c.charCodeAt(0))
