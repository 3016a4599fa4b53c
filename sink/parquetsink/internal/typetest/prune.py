# Filters Parquet files with DuckDB and pyarrow, which leave out row groups by what
# the footer says, and compares with filtering all rows; prints the differences.
import json, random, sys
import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

path, seed = sys.argv[1], int(sys.argv[2])
rand = random.Random(seed)
faults, tried = [], 0


def compare(tool, what, want, got):
    global tried
    tried += 1
    if sorted(want) != sorted(got):
        missing, extra = set(want) - set(got), set(got) - set(want)
        faults.append("%s: %s: misses rows %s, invents %s" % (tool, what, sorted(missing)[:5], sorted(extra)[:5]))


con = duckdb.connect()
con.execute("SET TimeZone = 'UTC'")
con.execute("SET threads = 1")
con.execute("SET parquet_metadata_cache = true")
con.execute("CREATE TABLE all_rows AS SELECT * FROM read_parquet(?)", [path])


def duck(where):
    ids = lambda source: [r[0] for r in con.execute("SELECT id FROM %s WHERE %s" % (source, where)).fetchall()]
    compare("duckdb", where, ids("all_rows"), ids("read_parquet('%s')" % path))


def literal(text, kind):
    return "'%s'::%s" % (text.replace("'", "''"), kind)


# Not all columns each time; those of floats are the difficult ones.
described = [d for d in con.execute("DESCRIBE all_rows").fetchall() if not d[1].endswith("[]")]
chosen = {d[0] for d in rand.sample(described, min(12, len(described)))} | {d[0] for d in described if d[1] in ("FLOAT", "DOUBLE")}

for name, kind, *_ in described:
    if name not in chosen:
        continue
    values = [r[0] for r in con.execute("SELECT DISTINCT \"%s\"::VARCHAR FROM all_rows WHERE \"%s\" IS NOT NULL ORDER BY 1" % (name, name)).fetchall()]
    values = [v for v in rand.sample(values, min(3, len(values))) if "\0" not in v]
    if kind in ("FLOAT", "DOUBLE"):
        values += ["nan", "inf", "-inf", "0", "-0.0"]
    duck('"%s" IS NULL' % name)
    duck('"%s" IS NOT NULL' % name)
    for v in values:
        for op in ("=", "<>", "<", "<=", ">", ">=", "IS DISTINCT FROM"):
            duck('"%s" %s %s' % (name, op, literal(v, kind)))
        duck('NOT "%s" < %s' % (name, literal(v, kind)))
        if kind == "VARCHAR":
            for like in (v[:3] + "%", "%" + v[-3:], "%" + v[1:-1] + "%"):
                duck('"%s" LIKE %s' % (name, literal(like, kind)))
    if len(values) > 1:
        duck('"%s" BETWEEN %s AND %s' % (name, literal(values[0], kind), literal(values[1], kind)))
        duck('"%s" IN (%s)' % (name, ", ".join(literal(v, kind) for v in values)))

dataset = ds.dataset(path)
next(dataset.get_fragments()).ensure_complete_metadata()
table = dataset.to_table(columns=[f.name for f in dataset.schema if f.name in chosen | {"id"}])


def arrow(what, e):
    compare("pyarrow", what, table.filter(e)["id"].to_pylist(), dataset.to_table(columns=["id"], filter=e)["id"].to_pylist())


for f in table.schema:
    if f.name not in chosen:
        continue
    values = [pa.scalar(v, f.type) for v in rand.sample(list(range(len(table))), min(4, len(table))) for v in [table[f.name][v].as_py()] if v is not None]
    if pa.types.is_floating(f.type):
        values += [pa.scalar(v, f.type) for v in (float("nan"), float("inf"), float("-inf"), 0.0, -0.0)]
    c = pc.field(f.name)
    arrow(f.name + " null", c.is_null())
    arrow(f.name + " not null", c.is_valid())
    for v in values:
        for op, e in (("=", c == v), ("<>", c != v), ("<", c < v), ("<=", c <= v), (">", c > v), (">=", c >= v)):
            arrow("%s %s %s" % (f.name, op, v), e)
        # pyarrow takes what is not below NaN for nothing, with any footer.
        if pa.types.is_floating(f.type) and v.as_py() == v.as_py():
            for op, e in (("nan", pc.is_nan(c)), ("not <", ~(c < v)), ("not >", ~(c > v))):
                arrow("%s %s %s" % (f.name, op, v), e)
    if values:
        arrow(f.name + " in", c.isin(pa.array([v.as_py() for v in values], f.type)))

json.dump({"Tried": tried, "Faults": faults}, sys.stdout)
