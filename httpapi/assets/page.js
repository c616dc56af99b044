// Keeps the page up to date from v1/events and v1/coverage. All text of others becomes text nodes, and
// the browser is told to refuse anything else (trusted types). What is in the document is bounded: a row for
// each member, and as many lines of the time line as there may be.

const mostChanges = 60; // as in hub.go
const hues = 8; // as in change.go
const mostWrong = 20; // as in page.go
const mostCells = 64; // of which each is still seen
const scale = 1000; // the width of every drawing
const lookEvery = 3000; // at what the events do not tell: the registry's records

const byID = (id) => document.getElementById(id);
const still = matchMedia("(prefers-reduced-motion: reduce)");

// Without a user and password that the address may have: no request may name them.
const at = (path) => new URL(path, location.origin + location.pathname);

// visible escapes what cannot be seen, or makes other text look different.
const visible = (text) =>
	text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (c) => "\\u{" + c.codePointAt(0).toString(16) + "}");

function element(name, className, ...children) {
	const e = document.createElement(name);
	if (className) e.className = className;
	e.append(...children);
	return e;
}

function drawing(name, attributes) {
	const e = document.createElementNS("http://www.w3.org/2000/svg", name);
	for (const key in attributes) e.setAttribute(key, attributes[key]);
	return e;
}

// set changes a text only if it is another one, since that is cheaper than laying it out again.
function set(e, text) {
	if (e.textContent !== text) e.textContent = text;
}

// ---- bands

// track is an empty drawing with some paths, each of a colour of its own or all of their row's.
function track(count, colored) {
	const svg = drawing("svg", { viewBox: `0 0 ${scale} 1`, preserveAspectRatio: "none" });
	const paths = Array.from({ length: count }, (_, i) => drawing("path", colored ? { class: "c" + i } : {}));
	svg.append(...paths);
	const e = element("div", "track", svg);
	e.setAttribute("aria-hidden", "true");
	return { e, paths, drawn: [] };
}

// draw has the tracks show runs of indexes, a list of them for each path, of so many indexes.
function draw(t, lists, width) {
	t.paths.forEach((path, i) => {
		const d = outline(lists[i] || [], width);
		if (t.drawn[i] !== d) path.setAttribute("d", (t.drawn[i] = d));
	});
	t.e.classList.toggle("cells", width > 1 && width <= mostCells);
	t.e.style.setProperty("--cells", width);
}

function outline(runs, width) {
	const x = (index) => +((index / width) * scale).toFixed(3);
	return runs.map(([from, to]) => `M${x(from)} 0H${x(to)}V1H${x(from)}Z`).join("") || "M0 0Z";
}

// runsOf returns what a member holds: [from, to) of each run.
function runsOf(m) {
	if (m.partitions === undefined) return m.index < 0 || mode === "cooperative" ? [] : [[m.index, m.index + m.workers]];
	return m.partitions.split(",").map((run) => {
		const [first, last] = run.split("-").map(Number);
		return [first, (last === undefined ? first : last) + 1];
	});
}

// byColor is the runs of each colour in the strip of a change.
function byColor(strip) {
	const lists = Array.from({ length: hues }, () => []);
	for (let from = 0, to; from < strip.length; from = to) {
		for (to = from + 1; strip[to] === strip[from]; ) to++;
		if (strip[from] !== ".") lists[+strip[from]].push([from, to]);
	}
	return lists;
}

// ---- members

let mode = "direct";
let view = null; // the newest event
let problems = []; // of the newest look at the registry
const rows = new Map(); // by ID
const whole = track(hues, true);

const words = { reserved: "reserved", vanished: "vanished", orphan: "orphan", overlap: "overlap", stopped: "stopping" };

function newRow(m) {
	const r = {
		e: element("tr"), id: element("bdi", "", visible(m.id)), tags: element("span", "tags"), band: track(2),
		holds: element("td", "number holds"), workers: element("td", "number"), address: element("bdi"), version: element("bdi"),
		runs: "", tagged: "",
	};
	const name = element("th", m.id.length > 20 ? "long" : "", r.id, " ", r.tags);
	name.scope = "row";
	r.id.title = visible(m.id);
	r.e.append(name, element("td", "band", r.band.e), r.holds, r.workers, element("td", "", r.address), element("td", "", r.version));
	return r;
}

function marksOf(id) {
	const marks = view.blockers.some((b) => b.id === id) ? ["waited for"] : [];
	for (const p of problems) {
		if (p.id === id && words[p.kind] && !marks.includes(words[p.kind])) marks.push(words[p.kind]);
	}
	return marks;
}

// stoppingOf returns what an instance holds, and what it has to stop while the others wait.
function stoppingOf(id, runs) {
	const b = view.blockers.find((b) => b.id === id);
	if (!b) return [runs];
	return b.partitions ? [runs, b.partitions.map((n) => [n, n + 1])] : [[], runs];
}

function showRow(r, m, width) {
	const runs = runsOf(m), text = JSON.stringify(runs);
	const marks = marksOf(m.id), tagged = [m.primary, m.self, ...marks].join();
	r.e.className = ["c" + m.color, ...marks.map((mark) => mark.split(" ")[0])].join(" ");
	draw(r.band, stoppingOf(m.id, runs), width);
	if (r.runs !== "" && r.runs !== text && !still.matches) {
		r.e.animate([{ backgroundColor: "var(--tag)" }, {}], { duration: 1600, easing: "ease-out" });
	}
	r.runs = text;
	if (r.tagged !== tagged) {
		r.tagged = tagged;
		const tags = [m.primary && "primary", m.self && "this one"].filter(Boolean).map((t) => element("span", "tag", t));
		r.tags.replaceChildren(...tags, ...marks.map((t) => element("span", "tag mark", t)));
	}
	set(r.holds, runs.map(([from, to]) => (to - from === 1 ? from : from + "–" + (to - 1))).join(", ") || "nothing");
	set(r.workers, String(m.workers));
	set(r.address, (r.address.title = visible(m.address || "")));
	set(r.version, (r.version.title = visible(m.version || "")));
}

// widthOf returns how many indexes there are. The total leaves this instance out while it has none.
const widthOf = (members) => Math.max(view.state.total, ...members.flatMap((m) => runsOf(m).slice(-1).map(([, to]) => to)));

function showMembers() {
	const body = byID("members").tBodies[0];
	const members = [...view.members];
	if (mode === "cooperative") members.sort((a, b) => (a.id < b.id ? -1 : 1)); // or rows would jump
	const width = Math.max(1, widthOf(members));
	const before = moves(members);
	const here = new Set(members.map((m) => m.id));
	for (const [id, r] of rows) {
		if (!here.has(id)) {
			r.e.remove();
			rows.delete(id);
		}
	}
	body.querySelectorAll(":scope > :not([data-live])").forEach((e) => e.remove());
	let next = body.firstElementChild;
	for (const m of members) {
		let r = rows.get(m.id);
		if (!r) {
			rows.set(m.id, (r = newRow(m)));
			r.e.dataset.live = "";
			if (!still.matches) r.e.animate([{ opacity: 0 }, { opacity: 1 }], { duration: 500 });
		}
		if (r.e === next) next = next.nextElementSibling;
		else body.insertBefore(r.e, next);
		showRow(r, m, width);
	}
	if (members.length === 0) body.append(element("tr", "", element("td", "none", "No members are known.")));
	settle(before);
	byID("members").classList.toggle("plain", !members.some((m) => m.address || m.version));
	const lists = Array.from({ length: hues }, () => []);
	for (const m of members) lists[m.color].push(...runsOf(m));
	draw(whole, lists, width);
	showAxis(members, width);
}

// moves notes where the rows are, unless there are too many to follow with the eyes.
function moves(members) {
	const tops = new Map();
	if (!still.matches && members.length <= 100) {
		for (const r of rows.values()) tops.set(r.e, r.e.offsetTop);
	}
	return tops;
}

// settle has the rows that have moved glide from where they were.
function settle(tops) {
	for (const [e, top] of tops) {
		const by = e.isConnected ? top - e.offsetTop : 0;
		if (by) e.animate([{ transform: `translateY(${by}px)` }, {}], { duration: 500, easing: "cubic-bezier(0.3, 0, 0.1, 1)" });
	}
}

// showAxis numbers where ranges begin, as far as there is room.
function showAxis(members, width) {
	const total = view.state.total;
	const starts = mode !== "cooperative" && members.length <= 16
		? members.map((m) => m.index) : [0.25, 0.5, 0.75].map((part) => Math.round(part * total));
	let last = 0;
	const marks = [0];
	for (const n of starts) {
		if ((n - last) / width > 0.06 && (width - n) / width > 0.08) marks.push((last = n));
	}
	if (total > 0) marks.push(width);
	byID("axis").replaceChildren(...marks.map((n) => {
		const e = element("span", n === width ? "end" : "", String(n));
		e.style.left = (n / width) * 100 + "%";
		return e;
	}));
}

// ---- the rest of the page

const clock = (time) => new Date(time).toLocaleTimeString([], { hour12: false });

function showFigures() {
	const s = view.state;
	set(byID("cluster"), visible(s.cluster));
	set(byID("instance"), visible(s.instance));
	set(byID("mode"), s.mode);
	set(byID("unit"), s.mode === "cooperative" ? "partitions" : "workers");
	set(byID("each"), `each ${s.mode === "cooperative" ? "partition" : "index"} held once`);
	set(byID("total"), String(widthOf(view.members)));
	set(byID("instances"), String(view.members.length));
	set(byID("generation"), String(s.generation));
	set(byID("phase"), s.phase === "active" && s.index < 0 ? "watching" : s.phase);
	byID("phase").className = s.phase === "active" ? "" : "bad";
}

function showCovered(text, className) {
	set(byID("covered"), text);
	byID("covered").className = className;
}

// showWrong lists what is wrong, as of now.
function showWrong() {
	const lines = view.state.why ? ["this instance: " + view.state.why] : [];
	for (const b of view.blockers) {
		const seconds = b.since && Math.max(0, Math.round((Date.now() - Date.parse(b.since)) / 1000));
		lines.push(`the cluster waits for ${b.id}` + (b.since ? `, for ${seconds} s` : ""));
	}
	const unit = mode === "cooperative" ? "partition" : "index";
	for (const p of problems.slice(0, mostWrong)) {
		const some = p.to - p.from;
		const where = some === 0 ? "" : some === 1 ? `${unit} ${p.from}` : `${unit === "index" ? "indexes" : "partitions"} ${p.from} to ${p.to - 1}`;
		lines.push([where, p.id].filter(Boolean).join(", ") + (where || p.id ? ": " : "") + p.text);
	}
	if (problems.length > mostWrong) lines.push(`and ${problems.length - mostWrong} more`);
	const list = byID("wrong");
	while (list.children.length > lines.length) list.lastElementChild.remove();
	lines.forEach((line, i) => set(list.children[i] || list.appendChild(element("li")), visible(line)));
}

function showChange(c) {
	const time = element("time", "", clock(c.time));
	time.dateTime = c.time;
	time.title = new Date(c.time).toLocaleString();
	const name = element("th", "", time, " ", element("span", "tag", String(c.generation)));
	name.scope = "row";
	const band = track(hues, true);
	draw(band, byColor(c.strip), Math.max(1, c.strip.length));
	const e = element("tr", "", name, element("td", "band", band.e), element("td", "", visible(c.text)));
	e.dataset.id = c.id;
	return e;
}

// showChanges puts changes on top of the time line, the newest last.
function showChanges(changes, anew) {
	const body = byID("changes").tBodies[0];
	if (anew) body.replaceChildren();
	for (const c of changes) {
		if (Number(body.firstElementChild?.dataset.id || 0) < c.id) body.prepend(showChange(c));
	}
	while (body.children.length > mostChanges) body.lastElementChild.remove();
}

function showLive(text, className) {
	set(byID("live"), text);
	byID("live").className = className;
	document.body.classList.toggle("stale", className === "off");
}

// ---- what comes in

let source = null;
let again = 0; // a timer
let lastID = "";

function connect() {
	clearTimeout(again);
	source?.close();
	source = new EventSource(at("v1/events" + (lastID && "?since=" + lastID)));
	source.addEventListener("history", (e) => showChanges(JSON.parse(e.data).changes, true));
	source.addEventListener("view", (e) => {
		lastID = e.lastEventId;
		view = JSON.parse(e.data);
		mode = view.state.mode;
		showChanges([view.change], false);
		due ||= setTimeout(showNewest, 50); // of many changes in one moment only the last is drawn
	});
	source.onopen = () => showLive("live", "on");
	source.onerror = () => {
		showLive("not connected since " + clock(Date.now()), "off");
		source.onerror = null; // the time is that of the first
		if (source.readyState === EventSource.CLOSED) again = setTimeout(connect, 3000);
		else source.onerror = () => source.readyState === EventSource.CLOSED && (again = setTimeout(connect, 3000));
	};
}

let due = 0; // a timer

function showNewest() {
	due = 0;
	show();
	look();
}

function show() {
	showFigures();
	showMembers();
	showWrong();
}

let looking = false;
let once = false; // look again after this look

// look asks what only the registry's records tell: what is reserved, orphaned or vanished.
async function look() {
	if (looking) {
		once = true;
		return;
	}
	looking = true;
	try {
		const answer = await fetch(at("v1/coverage"), { signal: AbortSignal.timeout(8000), cache: "no-store" });
		const found = await answer.json();
		problems = answer.ok ? found.problems : [];
		if (answer.ok) showCovered(found.covered ? "yes" : "no", found.covered ? "good" : "bad");
		else showCovered(answer.status === 501 ? "cannot be told" : "not known", "");
	} catch {
		problems = [];
		showCovered("not known", "");
	}
	looking = false;
	if (view) show();
	if (once) {
		once = false;
		look();
	}
}

// A page that nobody sees holds no connection, of which a browser has few.
document.addEventListener("visibilitychange", () => {
	if (document.hidden) {
		clearTimeout(again);
		source.close();
	} else {
		connect();
		look();
	}
});

document.documentElement.classList.add("drawn");
byID("whole").append(whole.e);
setInterval(() => document.hidden || !view || look(), lookEvery);
setInterval(() => document.hidden || !view || !view.blockers.length || showWrong(), 1000);
connect();
