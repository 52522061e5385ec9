-- What the filter does with a request that its pin keeps, in Lua: read session and pin, decode the pin, judge kind, age
-- and assignment, stamp, strip. Left out: the MAC and the keyed hash of the session id (Lua in Envoy has neither, so
-- anybody could forge such a pin), the counter (it has none), and the shared snapshot (the two assignments are constants).
local ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
local VALUE = {}
for at = 1, #ALPHABET do
  VALUE[string.byte(ALPHABET, at)] = at - 1
end
local MAX_AGE, IDLE, SKEW = 604800, 86400, 60
local HONOURED = { [BLUE] = { "blue", "b-1" }, [GREEN] = { "green", "g-1" } }

-- The bytes of a pin, or nil where it is none.
local function decode(pin)
  if #pin ~= 58 then
    return nil
  end
  local bytes, bits, held, count = {}, 0, 0, 0
  for at = 1, 58 do
    local value = VALUE[string.byte(pin, at)]
    if value == nil then
      return nil
    end
    bits = bit.bor(bit.lshift(bits, 6), value)
    held = held + 6
    if held >= 8 then
      held = held - 8
      count = count + 1
      bytes[count] = bit.band(bit.rshift(bits, held), 0xff)
      bits = bit.band(bits, bit.lshift(1, held) - 1)
    end
  end
  return bytes
end

local function number(bytes, from, count)
  local value = 0
  for at = from, from + count - 1 do
    value = value * 256 + bytes[at]
  end
  return value
end

-- The slot that a pin keeps its session on, or nil.
local function judge(pin, now)
  local bytes = decode(pin)
  if bytes == nil or (bytes[1] ~= 0x10 and bytes[1] ~= 0x11) then
    return nil
  end
  local began, refreshed = number(bytes, 20, 4), number(bytes, 24, 4)
  if began > now + SKEW or refreshed > now + SKEW or now - began >= MAX_AGE or now - refreshed >= IDLE then
    return nil
  end
  return HONOURED[number(bytes, 4, 8)]
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local session, pin = headers:get("x-agent-session"), headers:get("x-agent-pin")
  local slot, reason = nil, "pin"
  if pin ~= nil then
    slot = judge(pin, math.floor(handle:timestamp() / 1000))
    headers:remove("x-agent-pin")
  end
  if headers:get("x-agent-preview") ~= nil then
    headers:remove("x-agent-preview")
  end
  if headers:get("x-agent-client-sent") ~= nil then
    headers:remove("x-agent-client-sent")
  end
  if slot == nil then
    local hash = 5381
    for at = 1, #(session or "") do
      hash = bit.bxor(hash * 33, string.byte(session, at)) % 4294967296
    end
    slot, reason = (hash % 2 == 0) and HONOURED[BLUE] or HONOURED[GREEN], "hash"
  end
  local state = handle:streamInfo():dynamicMetadata()
  state:set("colorfast", "decided", "chat/" .. slot[1] .. "/" .. reason)
  state:set("colorfast", "bundle", slot[2])
  headers:replace("x-agent-decision", reason)
  headers:replace("x-agent-bundle", slot[2])
  headers:replace("x-agent-slot", slot[1])
end
