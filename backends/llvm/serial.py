import ctypes

from nagraph.backends.llvm.program import *

_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
import numpy as np


def run_serially(program, table, scratch):
    at=0; turns={}
    while at<len(program):
        i=program[at]; at+=1
        if isinstance(i,Phase):
            for l in i.launches:
                args=np.array(l.slots,np.int64); _FUNCTION(l.function.address)(table.ctypes.data,args.ctypes.data,0,l.function.emitted.units,scratch)
        elif isinstance(i,Point):
            t=turns.get(i.loop,0); t=i.length-1-t if i.reverse else t
            table[i.target]=table[i.source]+i.offset+(i.step*t if i.step else 0)
        elif isinstance(i,Swap): table[i.a],table[i.b]=int(table[i.b]),int(table[i.a])
        elif isinstance(i,Loop):
            turns[i.loop]=0
            if not i.turns: at=next(n for n in range(at,len(program)) if isinstance(program[n],End) and program[n].loop==i.loop)+1
        elif isinstance(i,End):
            turns[i.loop]+=1
            b=next(n for n in range(len(program)) if isinstance(program[n],Loop) and program[n].loop==i.loop)
            if turns[i.loop]<program[b].turns: at=b+1
        elif isinstance(i,Decide):
            if not ctypes.c_ubyte.from_address(int(table[i.slot])).value: at=i.otherwise
        elif isinstance(i,Jump): at=i.target
