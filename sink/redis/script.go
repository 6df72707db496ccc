package redis

import (
	"crypto/sha1" // how Redis names scripts
	"encoding/hex"
)

// script is a Lua script and the name by which the server keeps it.
type script struct {
	source any // string
	sha    any // string
}

func newScript(source string) script {
	sum := sha1.Sum([]byte(source))
	return script{source: source, sha: hex.EncodeToString(sum[:])}
}

// lastID is the beginning of both scripts: a function that finds a stream's last-generated-id, or returns the text of an error. That id, unlike the last
// entry's, stays when somebody deletes or trims the end, so a late batch is refused even then. XINFO costs 6.5 us a stream where the last entry
// holds 500 B (XREVRANGE 3.5, Redis 7.0); from some ten messages a stream the difference is not to be measured.
const lastID = `
local function last_id(key)
  local info = redis.pcall('XINFO', 'STREAM', key)
  if info.err then
    if not string.find(info.err, 'no such key', 1, true) then return nil, info.err end
    return '0-0'
  end
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then return info[i + 1] end
  end
end
`

// appendScript appends to each of the streams KEYS if it ends where the caller believes, and returns for each its new end, or a list of the text of an
// error. An error in its place would be one of the protocol, and go-redis does not read the rest of a list behind one that it has a type for, such as OOM:
// what is left would be taken for the next replies.
//
// ARGV: MAXLEN or 0; how many shapes there are, and for each its number of fields and their names; then for each stream the expected end, the id
// that the first message gets, or nothing, the number of arguments that follow, and runs of messages of one shape: the shape, how many messages, and
// each one's values. Names that came with each message would cost a fifth more of the server's time.
//
// A given id is the one next to the expected end: the server refuses it if the stream has had anything behind that end, also what was deleted since. That
// is for nothing. Without one, and where the stream is empty or gone, the script compares the ends, which costs as much as two messages.
//
// A server's refusal (memory, replica, disk) can meet the first XADD only: Redis does not check again once a
// script has written. Should a later one fail all the same, the reply says so and the fate counts as unknown.
var appendScript = newScript(lastID + `
local pcall, maxlen, i, shapes = redis.pcall, ARGV[1], 3, {}
for s = 1, tonumber(ARGV[2]) do
  local entry = {'XADD', '', '*'}
  entry.fields = tonumber(ARGV[i])
  for f = 1, entry.fields do entry[2 + 2 * f] = ARGV[i + f] end
  shapes[s] = entry
  i = i + 1 + entry.fields
end
local function append(key, expected, id, behind)
  local last, err
  if id == '' or pcall('XLEN', key) == 0 then
    last, err = last_id(key)
    if err then return nil, err end
    if last ~= expected then
      return nil, 'FENCED the stream ends at ' .. last .. ' and not at ' .. expected
    end
    id = '*'
  end
  local landed = false
  while i < behind do
    local entry = shapes[tonumber(ARGV[i])]
    local fields, messages = entry.fields, tonumber(ARGV[i + 1])
    entry[2] = key
    i = i + 2
    for m = 1, messages do
      entry[3] = id
      for f = 1, fields do entry[3 + 2 * f] = ARGV[i + f - 1] end
      i = i + fields
      if maxlen ~= '0' and i >= behind then
        last = pcall('XADD', key, 'MAXLEN', '~', maxlen, unpack(entry, 3, 3 + 2 * fields))
      else
        last = pcall(unpack(entry, 1, 3 + 2 * fields))
      end
      if type(last) == 'table' then
        if landed then return nil, 'PARTIAL ' .. last.err end
        if id ~= '*' and string.find(last.err, 'equal or smaller', 1, true) then
          return nil, 'FENCED the stream does not end at ' .. expected
        end
        return nil, last.err
      end
      landed, id = true, '*'
    end
  end
  return last
end
local ends = {}
for k, key in ipairs(KEYS) do
  local expected, id, behind = ARGV[i], ARGV[i + 1], i + 3 + tonumber(ARGV[i + 2])
  i = i + 3
  local last, err = append(key, expected, id, behind)
  ends[k] = last or {err}
  i = behind
end
return ends`)

// tailScript returns the last-generated-id, then for each of at most ARGV[2] entries at or below the id ARGV[1], newest first:
// entry id, size of its values, and the fields that a sink.Entry is made of. Payloads stay in the server.
var tailScript = newScript(lastID + `
local key = KEYS[1]
local last, err = last_id(key)
if err then return {err = err} end
local reply = {last}
local count = tonumber(ARGV[2])
if count == 0 then return reply end
local entries = redis.pcall('XREVRANGE', key, ARGV[1], '-', 'COUNT', count)
if entries.err then return entries end
for _, entry in ipairs(entries) do
  local found, size, fields = {}, 0, entry[2]
  for i = 1, #fields, 2 do
    local name = fields[i]
    if not found[name] then found[name] = fields[i + 1] end
    size = size + #fields[i + 1]
  end
  reply[#reply + 1] = {entry[1], tostring(size),
    found['id'] or '', found['position'] or '', found['frontier'] or '', found['replay'] or ''}
end
return reply`)
