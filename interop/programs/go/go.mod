module leno.mesh/interop

go 1.21
