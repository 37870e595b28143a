// Make three calls with the client that oazapfts generated; tsc checks the types of their answers.
import * as made from "./made.js";

made.defaults.baseUrl = process.argv[2];
const prices = await made.getMarketPrice({ symbols: ["BTC", "ETH"] });
const candles = await made.getMarketOhlc("BTC", { interval: "1m", limit: 3 });
const snapshot = await made.getSnapshot({ topics: ["price.BTC", "ohlcv.BTC.1m"] });
if (prices.status !== 200 || candles.status !== 200 || snapshot.status !== 200) throw new Error("refused");
const symbols: string[] = prices.data.data.map((row) => row.symbol);
const closed: boolean[] = candles.data.data.map((row) => row.closed);
const topics: string[] = snapshot.data.data.map((row) => row.topic);
const told = JSON.stringify([symbols, closed, topics.sort()]);
if (told !== '[["BTC","ETH"],[true,true,false],["ohlcv.BTC.1m","price.BTC"]]') throw new Error(told);
console.log("TypeScript: 3 calls");
