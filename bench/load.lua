-- What wrk sends to the local stack, with a list of users and of authIds that src/load.rs makes. One thread.
local folder, mode = os.getenv("FOLDER"), os.getenv("MODE")

local function contents(name)
    local file = assert(io.open(folder .. "/" .. name))
    local text = file:read("*a")
    file:close()
    return text
end

local path = os.getenv("API_PATH") .. "/deviceAuthentications"
local headers = { ["Authorization"] = "Bearer " .. contents("token"), ["Content-Type"] = "application/json" }
local prefix, first, last = os.getenv("USERS"), tonumber(os.getenv("FIRST")), tonumber(os.getenv("LAST"))
local limit = tonumber(os.getenv("LIMIT")) -- of answers; 0: until the time is over
local user, answers = first, 0
local auth_ids, oldest, newest = {}, 1, 0 -- a queue
unexpected = 0 -- global, so that done() can ask for it

if mode == "validate" then
    for id in contents("auth-ids"):gmatch("[^\n]+") do
        newest = newest + 1
        auth_ids[newest] = id
    end
end
local issued = mode == "start" and assert(io.open(folder .. "/auth-ids", "w"))
if issued then
    issued:setvbuf("line")
end

-- The file with the code is replaced when there is a new one.
local code, code_read_at
local function current_code()
    local now = os.time()
    if now ~= code_read_at then
        code, code_read_at = contents("code"), now
    end
    return code
end

local function finish()
    wrk.thread:stop()
    assert(io.open(folder .. "/finished", "w")):close()
end

local function start()
    local body = '{"userName":"' .. prefix .. user .. '","deviceName":"mydevice","deviceType":"TOTP"}'
    user = user < last and user + 1 or first
    return wrk.format("POST", path, headers, body)
end

function request()
    local id = auth_ids[oldest]
    if id then
        auth_ids[oldest] = nil
        oldest = oldest + 1
        return wrk.format("POST", path .. "/" .. id, headers, '{"otp":"' .. current_code() .. '"}')
    end
    if mode == "validate" then
        finish()
    end
    return start()
end

function response(status, _, body)
    if status == 201 then
        local id = body:match('"authId":"([^"]+)"')
        if issued then
            issued:write(id, "\n")
        else
            newest = newest + 1
            auth_ids[newest] = id
        end
    elseif status ~= 200 then
        unexpected = unexpected + 1
        io.stderr:write(status, " ", body, "\n")
    end
    answers = answers + 1
    if answers == limit then
        finish()
    end
end

local threads = {}
function setup(thread)
    threads[#threads + 1] = thread
end

function done(summary, latency)
    local errors = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
    for _, thread in ipairs(threads) do
        errors = errors + thread:get("unexpected")
    end
    print(string.format(
        '{"requests":%d,"errors":%d,"microseconds":%d,"p50":%d,"p90":%d,"p99":%d,"max":%d}',
        summary.requests, errors, summary.duration,
        latency:percentile(50), latency:percentile(90), latency:percentile(99), latency.max
    ))
end
