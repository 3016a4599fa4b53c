# in.{csv,jsonl,parquet} out threads [hive]: checked and enriched by DuckDB, to Parquet; the nine columns may repeat as NAME_2 …
import re, sys, duckdb
src, out, threads, hive = sys.argv[1], sys.argv[2], int(sys.argv[3]), len(sys.argv) > 4
TYPES = {"venta_id": "BIGINT", "cliente_id": "BIGINT", "producto_id": "BIGINT", "cantidad": "BIGINT", "precio_unitario": "DOUBLE",
         "total": "DOUBLE", "fecha_venta": "TIMESTAMP", "metodo_pago": "VARCHAR", "estado": "VARCHAR"}
import glob
if src.endswith(".csv"):
    names = open(sorted(glob.glob(src))[0]).readline().strip().split(",")
    columns = {n: TYPES[re.sub(r"_\d+$", "", n)] for n in names}
    read = f"read_csv('{src}',header=true,columns={columns})"
elif src.endswith(".jsonl"):
    read = f"read_ndjson('{src}',columns={TYPES},timestampformat='%Y-%m-%d %H:%M:%S')"
else:
    read = f"read_parquet('{src}')"
c = duckdb.connect(config={"threads": threads})
c.execute(f"""COPY (SELECT *,year(fecha_venta)::INTEGER anio,strftime(fecha_venta,'%Y-%m') mes,total/cantidad ticket_unitario
 FROM {read} WHERE cantidad>0)
 TO '{out}' (FORMAT parquet, COMPRESSION snappy{', PARTITION_BY (mes)' if hive else ''})""")
