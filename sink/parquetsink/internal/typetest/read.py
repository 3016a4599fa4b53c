# Reads Parquet with DuckDB and pyarrow; prints columns, types and rows as JSON.
import datetime, decimal, json, os, struct, sys
import duckdb
import pyarrow.dataset as ds

path, order = sys.argv[1], sys.argv[2]
epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def text(v):
    if v is None:
        return None
    if isinstance(v, list):
        return [text(x) for x in v]
    if isinstance(v, bool):
        return "true" if v else "false"
    if isinstance(v, int):
        return str(v)
    if isinstance(v, float):
        return "nan" if v != v else "%x" % struct.unpack(">Q", struct.pack(">d", v))[0]
    if isinstance(v, bytes):
        return v.hex()
    if isinstance(v, decimal.Decimal):
        return format(v.copy_abs() if v.is_zero() else v, "f")
    if isinstance(v, datetime.datetime):
        return str((v - epoch) // datetime.timedelta(microseconds=1))
    return str(v)


def dump(columns, rows):
    return {"Columns": columns, "Rows": [[text(v) for v in r] for r in rows]}


folder = os.path.isdir(path)
dataset = ds.dataset(path, format="parquet", partitioning="hive" if folder else None)
table = dataset.to_table()
if order:
    table = table.sort_by(order)
columns = [[f.name, str(f.type) + ("" if f.nullable else " not null")] for f in table.schema]
arrow = dump(columns, zip(*[c.to_pylist() for c in table.columns]))

con = duckdb.connect()
con.execute("SET TimeZone = 'UTC'")
source = "read_parquet(?, hive_partitioning = %s)" % ("true" if folder else "false")
arg = [path + "/**/*.parquet" if folder else path]
described = con.execute("DESCRIBE SELECT * FROM " + source, arg).fetchall()
exprs = []
for name, kind, *_ in described:
    q = '"%s"' % name.replace('"', '""')
    if kind == "TIMESTAMP WITH TIME ZONE":
        q = "epoch_us(%s)" % q
    elif kind == "TIMESTAMP WITH TIME ZONE[]":
        q = "list_transform(%s, lambda x: epoch_us(x))" % q
    exprs.append(q)
query = "SELECT %s FROM %s" % (", ".join(exprs), source)
if order:
    query += " ORDER BY " + order
duck = dump([[d[0], d[1]] for d in described], con.execute(query, arg).fetchall())
json.dump({"duckdb": duck, "pyarrow": arrow}, sys.stdout)
