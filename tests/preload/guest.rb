# An application in Ruby that obeys lines from its standard input and answers each with one.
#
# `guest.rb quiet` obeys in the main thread, which sleeps between two lines; `guest.rb busy` obeys
# in another thread while the main thread computes.
$stdout.sync = true
$kept = []

# Strings that malloc serves, 1 in 100 of which survives.
def burst
  strings = Array.new(20_000) { |i| (i & 127).chr * (2_000 + i % 20_000) }
  $kept = strings.each_slice(100).map(&:first)
  strings.length
end

def check
  $kept.all? { |text| text.count(text[0]) == text.length } ? 1 : 0
end

def obey(line)
  case line
  when "burst" then burst
  when "check" then check
  when "fork" then Process.wait2(fork {}).last.exitstatus
  else -1
  end
end

def serve
  while (line = $stdin.gets)
    puts obey(line.chomp)
  end
end

def compute
  n = 0
  loop { n += 1 }
end

if ARGV[0] == "busy"
  Thread.new { serve; exit }
  compute
else
  serve
end
