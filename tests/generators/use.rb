# Load every class of the client that openapi-generator generated, and make three calls.
require "made"

Made.configure { |config| config.scheme, config.host, config.base_path = "http", ARGV[0].delete_prefix("http://"), "" }
names = Made.constants.map { |name| Made.const_get(name) }
market, streams = Made::MarketApi.new, Made::StreamsAndTopicsApi.new
prices = market.get_market_price(symbols: %w[BTC ETH])
candles = market.get_market_ohlc("BTC", interval: "1m", limit: 3)
snapshot = streams.get_snapshot(topics: %w[price.BTC ohlcv.BTC.1m])
raise prices.inspect unless prices.data.map(&:symbol) == %w[BTC ETH]
raise candles.inspect unless candles.data.map(&:closed) == [true, true, false]
raise snapshot.inspect unless snapshot.data.map(&:topic).sort == %w[ohlcv.BTC.1m price.BTC]
puts "Ruby: #{names.size} classes, 3 calls"
