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
	sum := sha1.Sum([]byte(source)) // how Redis names scripts
	return script{source: source, sha: hex.EncodeToString(sum[:])}
}

// lastID is the beginning of both scripts: it finds the stream's last-generated-id. That id, unlike the last entry's, stays when
// somebody deletes or trims the end, so a late batch is refused even then. XINFO costs 6.5 us a script where the last entry
// holds 500 B (XREVRANGE 3.5, Redis 7.0); from some ten messages a batch the difference is not to be measured.
const lastID = `
local key = KEYS[1]
local info = redis.pcall('XINFO', 'STREAM', key)
local last = '0-0'
if info.err then
  if not string.find(info.err, 'no such key', 1, true) then return info end
else
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then last = info[i + 1] break end
  end
end
`

// appendScript appends a batch if the stream ends where the caller believes, and returns the new end.
// ARGV: the expected end, MAXLEN or 0, then for each run of messages with the same fields their number of fields, the number of messages, the
// names of the fields, and each message's values. Names that came with each message would cost a fifth more of the server's time.
//
// A server's refusal (memory, replica, disk) can meet the first XADD only: Redis does not check again once a
// script has written. Should a later one fail all the same, the reply says so and the fate counts as unknown.
var appendScript = newScript(lastID + `
if last ~= ARGV[1] then
  return redis.error_reply('FENCED the stream ends at ' .. last .. ' and not at ' .. ARGV[1])
end
local pcall, maxlen, i, n, landed = redis.pcall, ARGV[2], 3, #ARGV, false
while i <= n do
  local fields, messages = tonumber(ARGV[i]), tonumber(ARGV[i + 1])
  local entry = {'XADD', key, '*'}
  for f = 1, fields do entry[2 + 2 * f] = ARGV[i + 1 + f] end
  i = i + 2 + fields
  for m = 1, messages do
    for f = 1, fields do entry[3 + 2 * f] = ARGV[i + f - 1] end
    i = i + fields
    if maxlen ~= '0' and i > n then
      last = pcall('XADD', key, 'MAXLEN', '~', maxlen, unpack(entry, 3, 3 + 2 * fields))
    else
      last = pcall(unpack(entry, 1, 3 + 2 * fields))
    end
    if type(last) == 'table' then
      if not landed then return last end
      return redis.error_reply('PARTIAL ' .. last.err)
    end
    landed = true
  end
end
return last`)

// tailScript returns the last-generated-id, then for each of at most ARGV[2] entries at or below the id ARGV[1], newest first:
// entry id, size of its values, and the fields that a sink.Entry is made of. Payloads stay in the server.
var tailScript = newScript(lastID + `
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
