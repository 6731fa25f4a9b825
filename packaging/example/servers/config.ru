# Rack, for puma.ini. Each request makes a burst of objects, keeps a few, and checks an older one.
require "json"

KEPT = []
LOCK = Mutex.new

def work
  first = rand(1_000_000)
  rows = (0...400).map { |i| { "id" => first + i, "name" => "name #{first + i}", "tags" => [i.to_s, i * 1.5, nil] } }
  raise "rows changed on the way" unless JSON.parse(JSON.generate(rows)) == rows
  buffers = (0...100).map { |i| (97 + i % 26).chr * rand(600..60_000) }
  LOCK.synchronize do
    KEPT << [rows[0], buffers.sample]
    if KEPT.size > 50
      row, buffer = KEPT.delete_at(rand(50))
      good = row["name"] == "name #{row["id"]}" && buffer.count(buffer[0]) == buffer.size
      raise "a survivor changed: #{row}" unless good
    end
  end
  "#{Process.pid}\n"
end

run ->(_env) { [200, { "Content-Type" => "text/plain" }, [work]] }
