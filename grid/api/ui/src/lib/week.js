// A weekly schedule between its text, the grammar of policy.ParseHours with commas
// between, and a week of minutes of which hours are shown. testdata/hours.json of the
// node's package policy holds both to the same meaning.

const DAY = 1440
const WEEK = 7 * DAY // minutes from the beginning of Monday
const DAYS = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun']
const SPAN = /^([a-z]{3})(?:-([a-z]{3}))? (\d\d):(\d\d)-(\d\d):(\d\d)$/i

/** A week with a 1 for each minute in which units may run, or null if the text is none. An empty one means all. */
export function read(text) {
  const items = text.split(',').map((s) => s.trim()).filter(Boolean)
  if (!items.length) return new Uint8Array(WEEK).fill(1)
  const week = new Uint8Array(WEEK)
  for (const item of items) if (!readSpan(item, week)) return null
  return week
}

function readSpan(item, week) {
  const m = SPAN.exec(item)
  if (!m) return false
  const [first, last] = [m[1], m[2] ?? m[1]].map((d) => DAYS.indexOf(d.toLowerCase()))
  const [from, to] = [m[3] * 60 + +m[4], m[5] * 60 + +m[6]]
  if (first < 0 || last < 0 || m[4] > 59 || m[6] > 59 || from >= DAY || to > DAY) return false
  const length = to > from ? to - from : to + DAY - from // else it ends on the next day
  for (let d = first; ; d = (d + 1) % 7) {
    for (let i = 0; i < length; i++) week[(d * DAY + from + i) % WEEK] = 1
    if (d === last) return true
  }
}

/** The shortest usual text of a week, or null if no minute is on: no text says that. */
export function write(week) {
  if (!week.includes(1)) return null
  if (!week.includes(0)) return ''
  const days = new Map() // on which the same hours begin, by these
  for (const [day, hours] of spans(week)) days.set(hours, [...(days.get(hours) ?? []), day])
  return [...days]
    .flatMap(([hours, list]) => ranges(list).map(([first, last]) => ({ first, hours, text: `${DAYS[first]}${last === first ? '' : '-' + DAYS[last]} ${hours}` })))
    .sort((a, b) => a.first - b.first || (a.hours < b.hours ? -1 : 1))
    .map((s) => s.text)
    .join(',')
}

/** What is on at a stretch, as day and hours. What is longer than a day is cut at midnights, a night is not. */
function spans(week) {
  const list = []
  for (let begin = 0; begin < WEEK; begin++) {
    if (!week[begin] || week[(begin + WEEK - 1) % WEEK]) continue
    let length = 1
    while (week[(begin + length) % WEEK]) length++
    const cut = length > DAY
    for (let at = begin; at < begin + length; ) {
      const from = at % DAY
      const part = cut ? Math.min(DAY - from, begin + length - at) : length
      const to = from + part
      list.push([Math.floor(at / DAY) % 7, `${time(from)}-${time(to > DAY ? to - DAY : to)}`])
      at += part
    }
  }
  return list
}

/** Days as ranges; the week has no end. */
function ranges(list) {
  if (list.length === 7) return [[0, 6]]
  const on = (d) => list.includes((d + 7) % 7)
  return list.filter((d) => !on(d - 1)).map((first) => {
    let last = first
    while (on(last + 1)) last++
    return [first, last % 7]
  })
}

/** Minutes since midnight as HH:MM. */
export const time = (m) => [m / 60, m % 60].map((n) => String(Math.floor(n)).padStart(2, '0')).join(':')

/** How many minutes of an hour of the week (0 to 167) are on. */
export const minutes = (week, hour) => week.subarray(hour * 60, hour * 60 + 60).reduce((n, on) => n + on, 0)

/** The parts of an hour that are on, such as 09:00-09:30. */
export function parts(week, hour) {
  const list = []
  for (let i = 0, begin = 0; i <= 60; i++) {
    const on = i < 60 && week[hour * 60 + i]
    if (on && (i === 0 || !week[hour * 60 + i - 1])) begin = i
    if (!on && i > 0 && week[hour * 60 + i - 1]) list.push(`${time((hour % 24) * 60 + begin)}-${time((hour % 24) * 60 + i)}`)
  }
  return list
}

/** The week with all hours between two, of the days between them, on or off. */
export function paint(week, a, b, on) {
  const made = week.slice()
  const between = (x, y) => [Math.min(x, y), Math.max(x, y)]
  const [[day, lastDay], [hour, lastHour]] = [between(Math.floor(a / 24), Math.floor(b / 24)), between(a % 24, b % 24)]
  for (let d = day; d <= lastDay; d++) made.fill(on ? 1 : 0, d * DAY + hour * 60, d * DAY + (lastHour + 1) * 60)
  return made
}
