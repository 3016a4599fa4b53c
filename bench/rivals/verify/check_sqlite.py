# FILE: what the table ventas holds
import sqlite3, sys
c = sqlite3.connect(sys.argv[1])
n, total, anio, ticket, cantidad, f0, f1, m0, m1 = c.execute(
    "select count(*), sum(total), sum(anio), sum(ticket_unitario), sum(cantidad), min(fecha_venta), max(fecha_venta), min(mes), max(mes) from ventas").fetchone()
types = c.execute("select typeof(venta_id), typeof(total), typeof(fecha_venta), typeof(anio), typeof(ticket_unitario) from ventas limit 1").fetchone()
assert types == ("integer", "real", "text", "integer", "real"), types
print(f"rows={n} total={total:.0f} anio={anio} ticket={ticket:.0f} cantidad={cantidad} fecha={f0}..{f1} mes={m0}..{m1}")
