# in.{csv,jsonl,parquet} out [hive]: checked and enriched by polars, lazy, with its streaming sink; the nine columns may repeat as NAME_2 …
import re, sys
import polars as pl
src, out, hive = sys.argv[1], sys.argv[2], len(sys.argv) > 3
TYPES = {"venta_id": pl.Int64, "cliente_id": pl.Int64, "producto_id": pl.Int64, "cantidad": pl.Int64, "precio_unitario": pl.Float64,
         "total": pl.Float64, "fecha_venta": pl.String, "metodo_pago": pl.String, "estado": pl.String}
import glob
if src.endswith(".csv"):
    names = open(sorted(glob.glob(src))[0]).readline().strip().split(",")
    schema = {n: TYPES[re.sub(r"_\d+$", "", n)] for n in names}
    lf = pl.scan_csv(src, schema=schema)
elif src.endswith(".jsonl"):
    names = list(TYPES)
    lf = pl.scan_ndjson(src, schema=TYPES)
else:
    names = []
    lf = pl.scan_parquet(src)
times = [pl.col(n).str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="us").alias(n) for n in names if n.startswith("fecha_venta")]
lf = (lf.filter(pl.col("cantidad") > 0).with_columns(times)
      .with_columns(anio=pl.col("fecha_venta").dt.year(), mes=pl.col("fecha_venta").dt.strftime("%Y-%m"), ticket_unitario=pl.col("total") / pl.col("cantidad")))
if hive:
    lf.sink_parquet(pl.PartitionBy(out, key=["mes"], include_key=False), compression="snappy", mkdir=True)
else:
    lf.sink_parquet(out, compression="snappy")
