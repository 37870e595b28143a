/** Draws candles and volume with TradingView Lightweight Charts. */

import { decimalsIn, formatPrice } from "../format.js";

// Scrolled back further than this many candles, the chart no longer shows new ones.
const AWAY = 5;

/** The drawing: takes candles and volume, reports hovered open time and scroll position. */
export function mountView(holder) {
  if (!globalThis.LightweightCharts) return withoutLibrary(holder);
  const { CandlestickSeries, HistogramSeries, CrosshairMode, createChart } = globalThis.LightweightCharts;
  const chart = createChart(holder, {
    autoSize: true,
    layout: { attributionLogo: true },
    crosshair: { mode: CrosshairMode.Normal },
    timeScale: { timeVisible: true, rightOffset: 4, minBarSpacing: 1 },
    // A finger that moves up or down scrolls the page.
    handleScroll: { vertTouchDrag: false },
  });
  const price = chart.addSeries(CandlestickSeries, { borderVisible: false });
  const volume = chart.addSeries(HistogramSeries, {
    priceScaleId: "volume", priceFormat: { type: "volume" }, lastValueVisible: false, priceLineVisible: false,
  });
  price.priceScale().applyOptions({ scaleMargins: { top: 0.08, bottom: 0.22 } });
  volume.priceScale().applyOptions({ scaleMargins: { top: 0.84, bottom: 0 } });

  let colors = {};
  let shown = [];
  const view = { decimals: 2 };

  const bar = ({ open_time, open, high, low, close }) => ({ time: open_time / 1000, open, high, low, close });
  const column = ({ open_time, open, close, volume: value }) => ({
    time: open_time / 1000, value: value ?? 0, color: close < open ? colors["--down-wash"] : colors["--up-wash"],
  });

  function paint() {
    const style = getComputedStyle(document.documentElement);
    const names = ["--panel", "--muted", "--grid", "--line", "--up", "--down", "--up-wash", "--down-wash"];
    // Registered in style.css as colours, so that they resolve to values for the canvas.
    colors = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(name)]));
    chart.applyOptions({
      layout: {
        background: { color: colors["--panel"] }, textColor: colors["--muted"], fontSize: 11,
        fontFamily: getComputedStyle(holder).fontFamily,
      },
      grid: { vertLines: { color: colors["--grid"] }, horzLines: { color: colors["--grid"] } },
      rightPriceScale: { borderColor: colors["--line"] },
      timeScale: { borderColor: colors["--line"] },
    });
    const [upColor, downColor] = [colors["--up"], colors["--down"]];
    price.applyOptions({ upColor, downColor, wickUpColor: upColor, wickDownColor: downColor });
    volume.setData(shown.map(column));
  }

  view.reset = (candles) => {
    const other = candles.length && (!shown.length || candles[0].symbol !== shown[0].symbol || candles[0].interval !== shown[0].interval);
    shown = candles;
    // The median, because a derived candle may carry rounding dust of a division.
    const sample = candles.slice(-100).flatMap(({ high, low, close }) => [high, low, close]);
    const written = sample.map(decimalsIn).sort((a, b) => a - b);
    view.decimals = Math.max(2, written[written.length >> 1] ?? 2);
    const { decimals } = view;
    price.applyOptions({
      priceFormat: { type: "custom", minMove: 10 ** -decimals, formatter: (value) => formatPrice(value, decimals) },
    });
    price.setData(candles.map(bar));
    volume.setData(candles.map(column));
    if (!other) return;
    // Candle bodies are readable at about 7 px; the rest is one drag away.
    chart.timeScale().applyOptions({ barSpacing: 7, timeVisible: !/[dwM]$/.test(candles[0].interval) });
    price.priceScale().applyOptions({ autoScale: true });
    chart.timeScale().scrollToRealTime();
  };

  view.update = (candle) => {
    if (shown.at(-1)?.open_time === candle.open_time) shown[shown.length - 1] = candle;
    else shown.push(candle);
    price.update(bar(candle));
    volume.update(column(candle));
  };

  view.onHover = (callback) => chart.subscribeCrosshairMove(({ time }) => callback(time ? time * 1000 : null));
  view.onNearStart = (callback) => chart.timeScale().subscribeVisibleLogicalRangeChange((range) => range?.from < 5 && shown.length && callback());

  view.onAway = (callback) => chart.timeScale().subscribeVisibleLogicalRangeChange(() => callback(shown.length > 0 && chart.timeScale().scrollPosition() < -AWAY));
  view.toEnd = () => chart.timeScale().scrollToRealTime();

  addEventListener("themechange", paint);
  paint();
  return view;
}

/** A replacement without the chart library: the page works, and the legend still shows the newest candle. */
function withoutLibrary(holder) {
  holder.textContent = "The chart cannot be drawn: its library did not load.";
  holder.classList.add("empty");
  const nothing = () => {};
  return { decimals: 2, reset: nothing, update: nothing, onHover: nothing, onNearStart: nothing, onAway: nothing, toEnd: nothing };
}
